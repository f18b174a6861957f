"""What the loss sees: counts for every arm and split, and the tokens with their weights."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntpctp.config import Arm, Experiment
from ntpctp.data.encoded import lengths, num_merged, patterns, role_patterns
from ntpctp.data.tokenize import EncodedExample
from ntpctp.measures import EncodedSplit
from ntpctp.objectives import NTP, ExampleObjective, Objective, Selective
from ntpctp.objectives.dataset import SupervisedExamples, num_supervised
from ntpctp.runner.prepare import Data

AUDIT = "audit.json"


def audit(experiment: Experiment, data: Data) -> dict[str, Any]:
    """Count what every arm's loss sees at the first step, split by split.

    Returns:
        A JSON-ready record. ``splits``: counts that do not depend on the arm (examples, tokens,
        duplicates, boundaries merged by the tokenizer, what was dropped or trimmed). ``arms``: per
        split the supervised tokens (a token counts if its weight is not 0; selective objectives
        count those that they keep) with minimum, median and maximum a row, their share of all
        tokens that have a predecessor, rows of which the loss sees nothing, and the share of rows
        whose end of sequence is supervised. Examples shared between splits are an error before
        this, so their number is 0.
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
    """Counts as words, for a terminal or a page."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def count_tables(record: dict[str, Any]) -> tuple[CountTable, CountTable]:
    """Return the counts of ``audit`` as two tables: of splits, and of arms in splits."""
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
    columns = "arm", "split", "tokens in the loss", "a row (median)", "share", "of weight"
    return (
        CountTable("Examples and tokens", ("count", *splits), of_splits),
        CountTable("What the loss sees", (*columns, "empty rows", "EOS"), of_arms),
    )


def first_tokens(
    experiment: Experiment, data: Data, examples: int, split: str = "train"
) -> Iterator[list[tuple[str, list[float]]]]:
    """Yield the first examples as (token, its weight under each arm) lists."""
    rows = data.splits[split].encoded
    weights = [list(_weights(arm.objective, rows[:examples])) for arm in experiment.arms.values()]
    for index, row in enumerate(rows[:examples]):
        tokens = data.tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
        columns = [of_arm[index].tolist() for of_arm in weights]
        yield [(piece_of(row, t, tokens[t]), [c[t] for c in columns]) for t in range(len(row))]


def piece_of(row: EncodedExample, index: int, token: str) -> str:
    """Return the text that a token stands for; special tokens by their name."""
    if row.offsets is None or row.offsets[index, 0] == row.offsets[index, 1]:
        return token
    start, end = row.offsets[index]
    return row.text[start:end]


def _split_counts(split: EncodedSplit) -> dict[str, int]:
    sizes = lengths(split.encoded)
    # Equal hashes of 64 bits stand for equal examples: the texts of all would be in memory.
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
    objective: Objective, rows: Sequence[EncodedExample]
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield loss weights and how many rows have them, at least once each."""
    if all(isinstance(part, ExampleObjective) for _, part in _rule(objective).mixture(0)):
        numbers = Counter(patterns(rows))
        for roles, index in role_patterns(rows).items():
            (weights,) = _weights(objective, [rows[index]])
            yield weights, numbers[roles]
    else:
        yield from ((weights, 1) for weights in _weights(objective, rows))


def _weights(objective: Objective, rows: Sequence[EncodedExample]) -> Iterator[NDArray[np.float32]]:
    """Yield the loss weights of each row at the first step; token 0 has none."""
    supervised = SupervisedExamples(rows, _rule(objective))
    for index in range(len(rows)):
        weights = supervised.at(index, 0).weights.copy()
        weights[0] = 0
        yield weights


def _rule(objective: Objective) -> Objective:
    """A selective loss chooses among all tokens while it trains."""
    return NTP() if isinstance(objective, Selective) else objective
