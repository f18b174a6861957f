"""Audit of the objectives: counts of supervised tokens by arm and split, and loss weights."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntpctp.config import Arm, Experiment
from ntpctp.data.encoded import lengths, num_merged, patterns, role_patterns
from ntpctp.data.tokenize import EncodedExample
from ntpctp.measures import EncodedSplit
from ntpctp.objectives import NTP, Objective, Selective
from ntpctp.objectives.dataset import SupervisedExamples, num_supervised
from ntpctp.runner.prepare import Data

AUDIT = "audit.json"


def audit(experiment: Experiment, data: Data) -> dict[str, Any]:
    """Count the supervised tokens of every arm at the first step, split by split.

    Returns:
        A JSON-ready record. ``splits``: counts that do not depend on the arm (examples, tokens,
        duplicates, boundaries merged by the tokenizer, dropped or trimmed examples). ``arms``: per
        split the supervised tokens (a token counts if its weight is not 0; selective objectives
        count those that they keep) with minimum, median and maximum per example, their share of all
        tokens that have a predecessor, examples without a supervised token, and the share of
        examples whose end of sequence is supervised. Examples shared between splits are an earlier
        error, so their number is 0.
    """
    return {
        "data_fingerprint": data.fingerprint,
        "splits": {
            name: {**_split_counts(split), **data.exclusions.get(name, {}), "shared_examples": 0}
            for name, split in data.splits.items()
        },
        "arms": {
            arm_name: {name: _arm_counts(split, arm) for name, split in data.splits.items()}
            for arm_name, arm in experiment.arms.items()
        },
    }


class CountTable(NamedTuple):
    """Formatted counts, for a terminal or a page."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def count_tables(record: dict[str, Any]) -> tuple[CountTable, CountTable]:
    """Return the counts of ``audit`` as two tables: by split, and by arm and split."""
    splits = record["splits"]
    names = dict.fromkeys(key for counts in splits.values() for key in counts)
    of_splits = [
        (name.replace("_", " "), *(f"{counts.get(name, 0):,}" for counts in splits.values()))
        for name in names
    ]
    of_arms = [
        (
            arm,
            split,
            f"{c['supervised_tokens']:,}",
            f"{c['min']:g} to {c['max']:g} ({c['median']:g})",
            *(f"{c[name]:.1%}" for name in ("share", "weight_share")),
            f"{c['rows_without']:,}",
            f"{c['end_of_sequence_supervised']:.0%}",
        )
        for arm, of_arm in record["arms"].items()
        for split, c in of_arm.items()
    ]
    columns = "arm", "split", "tokens in the loss", "per row (median)", "share", "of weight"
    return (
        CountTable("Examples and tokens", ("count", *splits), of_splits),
        CountTable("What the loss sees", (*columns, "empty rows", "EOS"), of_arms),
    )


def first_tokens(
    experiment: Experiment, data: Data, examples: int, split: str = "train"
) -> Iterator[list[tuple[str, list[float]]]]:
    """Yield each of the first examples as a list of (token, its weight under each arm)."""
    first = data.splits[split].encoded[:examples]
    weights = [list(_weights(arm.objective, first)) for arm in experiment.arms.values()]
    for index, encoded in enumerate(first):
        tokens = data.tokenizer.convert_ids_to_tokens(encoded.input_ids.tolist())
        columns = [of_arm[index].tolist() for of_arm in weights]
        yield [
            (piece_of(encoded, t, tokens[t]), [c[t] for c in columns]) for t in range(len(encoded))
        ]


def piece_of(encoded: EncodedExample, index: int, token: str) -> str:
    """Return the text of a token; the name of a special token."""
    if encoded.offsets is None or encoded.offsets[index, 0] == encoded.offsets[index, 1]:
        return token
    start, end = encoded.offsets[index]
    return encoded.text[start:end]


def _split_counts(split: EncodedSplit) -> dict[str, int]:
    sizes = lengths(split.encoded)
    # 64-bit hashes are compared, as the texts of all examples may not fit into memory.
    different = np.unique(np.fromiter((hash(e.key) for e in split.examples), np.int64, len(sizes)))
    return {
        "examples": len(sizes),
        "tokens": int(sizes.sum()),
        "shortest": int(sizes.min()),
        "longest": int(sizes.max()),
        "duplicates": len(sizes) - len(different),
        "merged_boundaries": num_merged(split.encoded),
    }


def _arm_counts(split: EncodedSplit, arm: Arm) -> dict[str, Any]:
    counts = num_supervised(arm.objective, split.encoded)
    sizes = lengths(split.encoded)
    with_predecessor = int(sizes.sum()) - len(sizes)
    total = ends = 0.0
    for weights, number in _different_weights(arm.objective, split.encoded):
        total += number * float(weights.sum())
        ends += number * bool(weights[-1])
    return {
        "supervised_tokens": int(counts.sum()),
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
        "share": float(counts.sum() / with_predecessor),
        "weight_share": total / with_predecessor,
        "rows_without": int((counts == 0).sum()),
        "end_of_sequence_supervised": ends / len(sizes),
    }


def _different_weights(
    objective: Objective, examples: Sequence[EncodedExample]
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield loss weights and how many examples have them; equal weights may come twice."""
    if _rule(objective).is_by_roles():
        numbers = Counter(patterns(examples))
        for roles, index in role_patterns(examples).items():
            (weights,) = _weights(objective, [examples[index]])
            yield weights, numbers[roles]
    else:
        yield from ((weights, 1) for weights in _weights(objective, examples))


def _weights(
    objective: Objective, examples: Sequence[EncodedExample]
) -> Iterator[NDArray[np.float32]]:
    """Yield the loss weights of each example at the first step; that of token 0 is 0."""
    supervised = SupervisedExamples(examples, _rule(objective))
    for index in range(len(examples)):
        weights = supervised.at(index, 0).weights.copy()
        weights[0] = 0
        yield weights


def _rule(objective: Objective) -> Objective:
    """Return an objective with fixed weights: a selective loss chooses among all tokens."""
    return NTP() if isinstance(objective, Selective) else objective
