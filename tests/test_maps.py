"""Maps: a file becomes one experiment a cell; its page says what an independent reading says."""

import json
from itertools import product

import numpy as np
import pytest
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ntpctp.errors import InputError
from ntpctp.maps import load_map, map_of, read_levels
from ntpctp.report.map_cells import pair_maps, read_cells
from ntpctp.report.map_page import map_panels
from ntpctp.report.map_tables import summary
from ntpctp.scores import read_scores
from tests.conftest import tiny_content

MAP = {"task.train_size": [40, 60], "model.width": {"narrow": 8, "wide arms": 16}}
CELLS = [
    "train_size-40_width-narrow",
    "train_size-40_width-wide-arms",
    "train_size-60_width-narrow",
    "train_size-60_width-wide-arms",
]
EVALUATION = {"every": 8, "measures": [{"name": "accuracy", "train_items": 20}]}


def content(**changes):
    return tiny_content(**{"map": MAP, "evaluation": EVALUATION, "seeds": 3, **changes})


def write(tmp_path, **changes):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(content(**changes), sort_keys=False))
    return path


def test_every_combination_is_an_experiment(tmp_path):
    found = load_map(write(tmp_path), ["training.steps=4"])
    assert list(found.experiments) == CELLS and found.name == "tiny"
    assert found.levels[CELLS[1]] == {"task.train_size": "40", "model.width": "wide arms"}
    settings = [
        (e.task.train_size, e.arms["ntp"].model.width, e.arms["ctp"].training.steps)
        for e in found.experiments.values()
    ]
    assert settings == [(40, 8, 4), (40, 16, 4), (60, 8, 4), (60, 16, 4)]
    assert {e.name for e in found.experiments.values()} == {f"tiny-{cell}" for cell in CELLS}


def test_a_file_without_map_is_none(tmp_path):
    assert load_map(write(tmp_path, map=None)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {"a": {}}}, "has both map and stages"),
        ({"map": {"objective": ["ntp", "ctp"]}}, r"map.objective: cells of a map differ in what"),
        ({"map": {"arms.ntp.training.steps": [1, 2]}}, r"map.arms.ntp.training.steps: cells"),
        ({"map": {"model.width": [8]}}, "map.model.width: expected at least two values"),
        ({"map": {"model.width": 8}}, "map.model.width: expected a list of values, found 8"),
        ({"map": []}, "map: expected a map from fields"),
        ({"map": {"model.width": {"a b": 8, "a/b": 16}}}, "would have the directory 'width-a-b'"),
        ({"map": {"model.widht": [8, 16]}}, r"cell widht-8: .*\n.*model.widht.*'width'"),
        ({"name": None}, "name: missing; it names the directory of all cells"),
    ],
)
def test_what_is_no_map_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        map_of(content(**changes), "file.yaml")


def test_an_error_in_a_cell_names_the_line_of_the_map(tmp_path):
    path = write(tmp_path, map={"model.width": [8, "much"]})
    line = path.read_text().splitlines().index("  model.width:") + 1
    with pytest.raises(InputError, match=rf"cell width-much: .*\n.*line {line}\b"):
        load_map(path)


@pytest.mark.parametrize("command", [("train",), ("list",), ("audit",)])
def test_commands_about_one_experiment_say_so(ntpctp, tmp_path, command):
    done = ntpctp(*command, str(write(tmp_path)))
    assert done.code == 2 and "has a map" in done.err and "ntpctp run" in done.err


def test_what_is_wrong_with_the_last_cell_shows_before_the_first_is_trained(ntpctp, tmp_path):
    path = write(tmp_path, map={"task.train_size": [40, 99999]})
    done = ntpctp("run", str(path), "--output", str(tmp_path / "out"))
    assert done.code == 2 and "train_size" in done.err
    assert (
        not list(tmp_path.glob("out/**/*.safetensors"))
        and not (tmp_path / "out" / "map.yaml").exists()
    )


def test_the_plan_adds_up_all_cells(ntpctp, tmp_path):
    done = ntpctp("run", str(write(tmp_path)), "--plan")
    assert done.code == 0 and "all cells" in done.out
    rows = [line for line in done.out.splitlines() if "narrow" in line or "wide arms" in line]
    assert len(rows) == 4 and all("48" in row for row in rows)  # 8 steps of 6 runs
    assert "192" in next(line for line in done.out.splitlines() if "all cells" in line)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A map of four cells, run once."""
    from typer.testing import CliRunner

    from ntpctp.cli import app

    directory = tmp_path_factory.mktemp("map")
    # Steps enough for arms to differ.
    path = write(directory, training={"steps": 60, "batch_size": 8, "learning_rate": 1e-2})
    arguments = ["run", str(path), "--output", str(directory / "out"), "--workers", "2"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return directory / "out"


def values(out, cell):
    """Exact match on the test split at the last step: arm -> one value a seed."""
    frame = read_scores(out / cell)
    last = frame[frame["step"] == frame["step"].max()]
    own = last[
        (last["measure"] == "accuracy")
        & (last["split"] == "test")
        & (last["score"] == "exact_match")
        & last["stratum"].isna()
    ]
    return {
        arm: own[own["arm"] == arm].sort_values("seed")["value"].to_numpy()
        for arm in ("ntp", "ctp")
    }


def test_every_cell_is_an_experiment_of_its_own(finished):
    name, levels = read_levels(finished)
    assert name == "tiny" and list(levels) == CELLS
    for cell in CELLS:
        assert (finished / cell / "report.html").is_file()
    assert (finished / "map.html").stat().st_size > 1_000_000  # plotly is in it
    assert "http" not in (finished / "map.html").read_text().split("<script")[0].replace(
        "http-equiv", ""
    )


def test_differences_and_corrections_are_those_of_an_independent_reading(finished):
    record = json.loads((finished / "map.json").read_text())
    (pair,) = record["pairs"]
    assert [entry["cell"] for entry in pair["cells"]] == CELLS
    for entry in pair["cells"]:
        found = values(finished, entry["cell"])
        assert entry["estimate"] == pytest.approx(
            found["ntp"].mean() - found["ctp"].mean(), abs=1e-12
        )
    known = [entry for entry in pair["cells"] if entry["p_value"] is not None]
    assert len(known) >= 2, "the check needs p values"
    expected = multipletests([entry["p_value"] for entry in known], method="holm")[1]
    assert [entry["holm_p_value"] for entry in known] == pytest.approx(expected, rel=1e-9)


def test_effects_of_the_settings_are_those_of_a_paired_t_test(finished):
    record = json.loads((finished / "map.json").read_text())
    (pair,) = record["pairs"]
    differences = {
        levels: values(finished, cell)["ntp"] - values(finished, cell)["ctp"]
        for levels, cell in zip(product(("40", "60"), ("narrow", "wide arms")), CELLS, strict=True)
    }
    assert [entry["setting"] for entry in pair["effects"]] == list(MAP)
    p_values = []
    for axis, entry in enumerate(pair["effects"]):
        first, second = (
            np.mean([d for levels, d in differences.items() if levels[axis] == level], axis=0)
            for level in entry["levels"]
        )
        assert entry["estimate"] == pytest.approx(np.mean(first - second), abs=1e-12)
        test = stats.ttest_rel(first, second)
        p_values.append(test.pvalue)
        assert entry["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
        low, high = test.confidence_interval(0.95)
        assert (entry["low"], entry["high"]) == pytest.approx((low, high), rel=1e-9)
    expected = multipletests(p_values, method="holm")[1]
    assert [e["holm_p_value"] for e in pair["effects"]] == pytest.approx(expected, rel=1e-9)


def test_training_items_are_known_by_arm(finished):
    record = json.loads((finished / "map.json").read_text())
    for cell in record["cells"]:
        frame = read_scores(finished / cell["cell"])
        own = frame[
            (frame["split"] == "train") & (frame["score"] == "exact_match") & (frame["step"] == 60)
        ]
        expected = own.groupby("arm")["value"].mean().to_dict()
        assert cell["training"] == pytest.approx(expected)


def test_the_figure_has_each_difference_where_its_settings_are(finished):
    panel = map_panels(finished)["map-ntp-ctp"]
    (trace,) = panel.figure["data"]
    assert trace["x"] == ["40", "60"] and trace["y"] == ["narrow", "wide arms"]
    estimates = {
        cell: values(finished, cell)["ntp"].mean() - values(finished, cell)["ctp"].mean()
        for cell in CELLS
    }
    largest = max(map(abs, estimates.values()))
    expected = [
        [estimates[CELLS[0]], estimates[CELLS[2]]],
        [estimates[CELLS[1]], estimates[CELLS[3]]],
    ]
    assert np.allclose(np.array(trace["z"]) * largest, expected, atol=1e-6)
    assert len(panel.table.rows) == 4


def test_run_again_trains_nothing_and_a_cell_that_is_gone_is_named(ntpctp, finished, tmp_path):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    path = finished.parent / "map.yaml"
    done = ntpctp("run", str(path), "--output", str(out), "--workers", "2")
    assert done.code == 0 and "ntp is better in" in done.out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")} == before
    shutil.rmtree(out / CELLS[2])
    done = ntpctp("report", str(out))
    assert done.code == 0 and "1 cell without a difference" in done.out
    (found,) = pair_maps(read_cells(out)[1])
    assert found.cells[2].cell.reason == "not run yet"
    assert found.effects == [] and CELLS[2] in found.reason
    assert "1 cell without" in summary(found)
    assert f"{CELLS[2]}: not run yet" in (out / "map.html").read_text()


def test_a_broken_map_file_is_named(ntpctp, finished, tmp_path):
    (tmp_path / "map.yaml").write_text("name: x\n")
    done = ntpctp("report", str(tmp_path))
    assert done.code == 2 and "map.yaml: expected a name and cells" in done.err
