"""Item rows behind scores: of which items, in which order."""

import pytest

from ntpctp.evaluation import rows_path
from ntpctp.runs import RunId, stage_directory
from ntpctp.scores import ItemRows
from ntpctp.storage import write_jsonl

RUN = RunId("ntp", 0)


@pytest.fixture
def items(tmp_path):
    rows = [
        {"split": "test", "item": 2, "strata": ["hops = 4", "kind = a"], "choice": 0},
        {"split": "test", "item": 0, "strata": ["hops = 3", "kind = a"], "choice": 1},
        {"split": "test", "item": 1, "strata": ["hops = 4"], "choice": 1},
        {"split": "test", "item": 3, "strata": [], "choice": None},
        {"split": "ood", "item": 0, "strata": ["hops = 4"], "choice": 0},
    ]
    write_jsonl(rows_path(stage_directory(tmp_path, RUN) / "step-000005", "accuracy"), rows)
    return ItemRows(tmp_path)


@pytest.mark.parametrize(
    ("split", "stratum", "numbers", "values"),
    [
        ("test", None, [0, 1, 2], [1, 1, 0]),
        ("test", "hops = 4", [1, 2], [1, 0]),
        ("test", "kind = a", [0, 2], [1, 0]),
        ("ood", "hops = 4", [0], [0]),
        ("ood", "hops = 3", [], []),
    ],
)
def test_values_of_the_items_of_a_stratum_in_order(items, split, stratum, numbers, values):
    found = items.values(RUN, 5, "accuracy", split, "choice", stratum)
    assert [array.tolist() for array in found] == [numbers, values]
