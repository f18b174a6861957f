"""What the loss sees: counts for every arm and split, and the tokens with their weights."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ntpctp.experiment import Arm, Experiment
from ntpctp.measures import EncodedSplit
from ntpctp.objectives import NTP, Objective, Selective
from ntpctp.preparation import Data
from ntpctp.supervision import SupervisedRows, num_supervised
from ntpctp.tokens import Row

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
    rows = data.splits[split].rows
    weights = [_weights(arm.objective, rows[:examples]) for arm in experiment.arms.values()]
    for index, row in enumerate(rows[:examples]):
        tokens = data.tokenizer.convert_ids_to_tokens(row.input_ids.tolist())
        columns = [of_arm[index].tolist() for of_arm in weights]
        yield [(piece_of(row, t, tokens[t]), [c[t] for c in columns]) for t in range(len(row))]


def piece_of(row: Row, index: int, token: str) -> str:
    """Return the text that a token stands for; special tokens by their name."""
    if row.offsets is None or row.offsets[index, 0] == row.offsets[index, 1]:
        return token
    start, end = row.offsets[index]
    return row.text[start:end]


def _split_counts(split: EncodedSplit) -> dict[str, int]:
    lengths = np.array([len(row) for row in split.rows])
    return {
        "examples": len(lengths),
        "tokens": int(lengths.sum()),
        "shortest": int(lengths.min()),
        "longest": int(lengths.max()),
        "duplicates": len(lengths) - len({example.key for example in split.examples}),
        "merged_boundaries": sum(row.num_merged for row in split.rows),
    }


def _arm_counts(split: EncodedSplit, arm: Arm) -> dict[str, Any]:
    weights = _weights(arm.objective, split.rows)
    counts = num_supervised(arm.objective, split.rows)
    with_predecessor = sum(len(row) - 1 for row in split.rows)
    return {
        "supervised_tokens": int(counts.sum()),
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
        "share": float(counts.sum() / with_predecessor),
        "weight_share": float(sum(of_row.sum() for of_row in weights) / with_predecessor),
        "rows_without": int((counts == 0).sum()),
        "end_of_sequence_supervised": float(np.mean([of_row[-1] != 0 for of_row in weights])),
    }


def _weights(objective: Objective, rows: Any) -> list[Any]:
    """Return the loss weights of each row at the first step; token 0 has none."""
    # A selective loss chooses among all tokens while it trains.
    rule = NTP() if isinstance(objective, Selective) else objective
    supervised = SupervisedRows(rows, rule)
    weights = [supervised.at(index, 0).weights.copy() for index in range(len(rows))]
    for of_row in weights:
        of_row[0] = 0
    return weights
