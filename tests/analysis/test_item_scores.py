"""Item rows as columns: the right items, sorted, with the same numbers as in the JSON."""

import json

import numpy as np
import pytest

from ntpctp._core.errors import InputError
from ntpctp._core.files import write_jsonl
from ntpctp._core.layout import RunId, rows_path, stage_directory
from ntpctp.analysis.item_scores import ItemRows, _narrow

RUN = RunId("ntp", 0)
ROWS = [
    {"split": "test", "item": 2, "strata": ["hops = 4", "kind = a"], "choice": 0},
    {"split": "test", "item": 0, "strata": ["hops = 3", "kind = a"], "choice": 1},
    {"split": "test", "item": 1, "strata": ["hops = 4"], "choice": 1},
    {"split": "test", "item": 3, "strata": [], "choice": None},
    {"split": "ood", "item": 0, "strata": ["hops = 4"], "choice": 0},
]


def path_of(output):
    return rows_path(stage_directory(output, RUN) / "step-000005", "accuracy")


def values(output, split, key="choice", stratum=None):
    rows = ItemRows(output, {"accuracy": ["choice", "brier"]})
    return [array.tolist() for array in rows.values(RUN, 5, "accuracy", split, key, stratum)]


@pytest.mark.parametrize(
    ("split", "stratum", "numbers", "found"),
    [
        ("test", None, [0, 1, 2], [1, 1, 0]),
        ("test", "hops = 4", [1, 2], [1, 0]),
        ("test", "kind = a", [0, 2], [1, 0]),
        ("ood", "hops = 4", [0], [0]),
        ("ood", "hops = 3", [], []),
    ],
)
def test_values_of_the_items_of_a_stratum_in_order(tmp_path, split, stratum, numbers, found):
    write_jsonl(path_of(tmp_path), ROWS)
    assert values(tmp_path, split, stratum=stratum) == [numbers, found]
    # Booleans, which Arrow does not read as numbers, are read more slowly with the same result.
    odd = [{**row, "choice": row["choice"] and bool(row["choice"])} for row in ROWS]
    odd[0]["choice"] = False
    write_jsonl(path_of(tmp_path), odd)
    assert '"choice": true' in path_of(tmp_path).read_text()
    assert values(tmp_path, split, stratum=stratum) == [numbers, found]


def test_numbers_are_those_of_the_json_to_the_last_bit(tmp_path):
    generator = np.random.default_rng(0)
    numbers = np.exp(generator.normal(scale=20, size=3000)).tolist()
    rows = [
        {"split": "test", "item": item, "brier": number, "choice": item % 3 / 4, "prediction": "x"}
        for item, number in enumerate(numbers)
    ]
    write_jsonl(path_of(tmp_path), rows)
    assert values(tmp_path, "test", "brier") == [list(range(3000)), numbers]
    assert values(tmp_path, "test")[1] == [item % 3 / 4 for item in range(3000)]


def test_narrow_columns_lose_nothing():
    for numbers, dtype in (
        ([0.0, 1.0, -7.0], np.int8),
        ([0.25, np.nan], np.float32),
        ([300.0, 1.0], np.float32),
        ([0.1], np.float64),
        ([1e300], np.float64),
    ):
        narrow = _narrow(np.array(numbers))
        assert narrow.dtype == dtype
        np.testing.assert_array_equal(narrow.astype(np.float64), numbers)


def test_no_rows_and_bad_rows(tmp_path):
    write_jsonl(path_of(tmp_path), [])
    assert values(tmp_path, "test") == [[], []]
    path_of(tmp_path).write_text(json.dumps(ROWS[0]) + "\n[]\n")
    with pytest.raises(InputError, match=r"line 2: expected one JSON object, found list"):
        values(tmp_path, "test")
    path_of(tmp_path).unlink()
    with pytest.raises(InputError, match="expected a file with one JSON object per line"):
        values(tmp_path, "test")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"choice": "abc"}, "choice as numbers|choice, brier as numbers"),
        ({"item": "0"}, "item as a whole number"),
        ({"item": 1}, "item 1 of test has several rows"),
    ],
)
def test_rows_that_cannot_be_paired_are_refused(tmp_path, row, match):
    rows = [{"split": "test", "item": i, "choice": 1.0} for i in (0, 1)]
    path = path_of(tmp_path)
    path.parent.mkdir(parents=True)
    write_jsonl(path, [*rows, {**rows[0], **row}])
    with pytest.raises(InputError, match=match) as found:
        values(tmp_path, "test")
    assert str(path) in str(found.value)


def test_runs_that_are_read_side_by_side_have_their_own_values(tmp_path):
    runs = [(RunId(arm, seed), 5) for arm in ("ntp", "ctp") for seed in range(20)]
    for place, (run, _) in enumerate(runs):
        rows = [{"split": "test", "item": i, "choice": place + i / 8} for i in range(3)]
        path = rows_path(stage_directory(tmp_path, run) / "step-000005", "accuracy")
        path.parent.mkdir(parents=True)
        write_jsonl(path, rows)
    rows = ItemRows(tmp_path, {"accuracy": ["choice"]})
    rows.read("accuracy", runs)
    for place, (run, step) in enumerate(runs):
        numbers, found = rows.values(run, step, "accuracy", "test", "choice")
        assert numbers.tolist() == [0, 1, 2]
        assert found.tolist() == [place, place + 0.125, place + 0.25]
    with pytest.raises(InputError, match="step-000006"):
        rows.read("accuracy", [(runs[0][0], 6)])
