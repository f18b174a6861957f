"""Maps: a file becomes one experiment a cell; its page says what an independent reading says."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ntpctp._core.errors import InputError
from ntpctp._core.records import write_sealed
from ntpctp.analysis.comparison import compare
from ntpctp.analysis.scores import read_scores
from ntpctp.config import experiment_of
from ntpctp.config.sweep import load_sweep, read_levels, sweep_of, write_levels
from ntpctp.report.html.map_cells import MapCell, pair_maps, read_cells
from ntpctp.report.html.map_figure import map_panel
from ntpctp.report.html.map_page import map_panels
from ntpctp.report.html.map_tables import effects_table, stored_words, summary, words_of
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
    found = load_sweep(write(tmp_path), ["training.steps=4"])
    assert list(found.experiments) == CELLS and found.name == "tiny"
    assert found.levels[CELLS[1]] == {"task.train_size": "40", "model.width": "wide arms"}
    settings = [
        (e.task.train_size, e.arms["ntp"].model.width, e.arms["ctp"].training.steps)
        for e in found.experiments.values()
    ]
    assert settings == [(40, 8, 4), (40, 16, 4), (60, 8, 4), (60, 16, 4)]
    assert {e.name for e in found.experiments.values()} == {f"tiny-{cell}" for cell in CELLS}


def test_a_level_may_look_like_a_number(tmp_path):
    levels = {"1e-3": 0.001, "off": 0.01}
    found = sweep_of(content(map={"training.weight_decay": levels}), "file.yaml")
    write_levels(found, tmp_path / "out")
    assert [of["training.weight_decay"] for of in read_levels(tmp_path / "out")[1].values()] == [
        "1e-3",
        "off",
    ]


def test_the_command_line_changes_the_map_and_nothing_under_it(tmp_path):
    found = load_sweep(write(tmp_path), ["map.model.width=[8,16,32]"])
    assert [e.arms["ntp"].model.width for e in found.experiments.values()][:3] == [8, 16, 32]
    with pytest.raises(InputError, match=r"the map of .* sets task.train_size in every cell"):
        load_sweep(write(tmp_path), ["task.train_size=10"])
    with pytest.raises(InputError, match=r"sets model.width"):
        load_sweep(write(tmp_path), ["model={family: gpt2, width: 8, layers: 1, heads: 2}"])


def test_fields_of_a_shared_objective_may_be_mapped(tmp_path):
    grid = {"objective.base": ["ntp", "ctp"]}
    found = load_sweep(
        write(tmp_path, arms=None, objective="noisy", grid=grid, map={"objective.rate": [0, 0.4]})
    )
    rates = [e.arms["ntp"].objective.rate for e in found.experiments.values()]
    assert rates == [0, 0.4]


def test_a_file_without_map_is_none(tmp_path):
    assert load_sweep(write(tmp_path, map=None)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {"a": {}}}, "has both map and stages"),
        (
            {"map": {"objective": ["ntp", "ctp"]}},
            "map.objective: the arm ntp has its own objective",
        ),
        ({"map": {"arms.ntp.training.steps": [1, 2]}}, r"map.arms.ntp.training.steps: cells"),
        ({"map": {"model.width": [8]}}, "map.model.width: expected at least two values"),
        ({"map": {"model.width": 8}}, "map.model.width: expected a list of values, found 8"),
        ({"map": []}, "map: expected a map from fields"),
        ({"map": {"model.width": {"a b": 8, "a/b": 16}}}, "would have the directory 'width-a-b'"),
        ({"map": {"model.widht": [8, 16]}}, r"cell widht-8: .*\n.*model.widht.*'width'"),
        ({"map": {"model.width.x": [1, 2]}}, "x: expected 'width' to be a block of"),
        (
            {"arms": None, "grid": {"objective": ["ntp", "ctp"], "model.width": [8, 32]}},
            "map.model.width: grid.model.width sets it for the arms",
        ),
        (
            {"arms": {"a": {"objective": "ntp"}, "b": {"objective": "ctp", "model": {"width": 8}}}},
            "map.model.width: the arm b has its own model.width",
        ),
        (
            {
                "arms": {"a": {"objective": "ntp", "training": {"budget": {"epochs": 2}}}},
                "map": {"training.steps": [4, 8]},
            },
            "map.training.steps: the arm a has its own training.budget",
        ),
        ({"map": {"model.width": {"x" * 90: 8, "y": 16}}}, r"would be called .* 10\d characters"),
        ({"name": None}, "name: missing; it names the directory of all cells"),
    ],
)
def test_what_is_no_map_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        sweep_of(content(**changes), "file.yaml")


def test_an_error_in_a_cell_names_the_line_of_the_map(tmp_path):
    path = write(tmp_path, map={"model.width": [8, "much"]})
    line = path.read_text().splitlines().index("  model.width:") + 1
    with pytest.raises(InputError, match=rf"cell width-much: .*\n.*line {line}\b"):
        load_sweep(path)


@pytest.mark.parametrize("command", [("train",), ("list",), ("audit",)])
def test_commands_about_one_experiment_say_so(ntpctp, tmp_path, command):
    done = ntpctp(*command, str(write(tmp_path)))
    assert done.code == 2 and "ntpctp run" in done.err
    assert "has map; expected a single experiment" in done.err


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
    training = {"steps": 60, "batch_size": 8, "learning_rate": 1e-2}
    path = write(directory, training=training, evaluation={**EVALUATION, "every": 30})
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


@pytest.mark.slow
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
        assert [entry["start"], entry["end"]] == [["40", "60"], ["narrow", "wide arms"]][axis]
        start, end = (
            np.mean([d for levels, d in differences.items() if levels[axis] == level], axis=0)
            for level in (entry["start"], entry["end"])
        )
        assert entry["estimate"] == pytest.approx(np.mean(end - start), abs=1e-12)
        test = stats.ttest_rel(end, start)
        p_values.append(test.pvalue)
        assert entry["p_value"] == pytest.approx(test.pvalue, rel=1e-9)
        low, high = test.confidence_interval(0.95)
        assert (entry["low"], entry["high"]) == pytest.approx((low, high), rel=1e-9)
    expected = multipletests(p_values, method="holm")[1]
    assert [e["holm_p_value"] for e in pair["effects"]] == pytest.approx(expected, rel=1e-9)
    (found,) = pair_maps(read_cells(finished)[1])
    row = effects_table(found).rows[0]
    shown = row[3].text.replace("\N{MINUS SIGN}", "-").split()[0]
    assert float(shown) == pytest.approx(100 * pair["effects"][0]["estimate"], abs=0.051)


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
    panel = map_panels(finished)["map-ntp-against-ctp"]
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
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("model.safetensors")}
    assert len(before) == 72  # 4 cells of 6 runs, 3 checkpoints each
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


def test_a_broken_map_file_is_named(ntpctp, tmp_path):
    write_sealed(tmp_path / "cells.json", {"name": "x"})
    done = ntpctp("report", str(tmp_path))
    assert done.code == 2 and "cells.json: expected a name and cells" in done.err


def cell(name, values, higher=True, margin=None, unit="share of items", arms=None):
    """A cell as it would be read, with the comparison of the given values, one a seed."""
    arms = arms or {arm: {"objective": arm} for arm in values}
    comparison = {"margin": {"exact_match": margin} if margin else {}}
    if len(values) > 2 and "w" in values:
        arms["w"] = {"objective": {"name": "weighted", "prompt": 0.5}}
    experiment = experiment_of(
        tiny_content(arms=arms, comparison=comparison, seeds=len(next(iter(values.values())))), name
    )
    rows = [
        {
            "arm": arm, "seed": seed, "step": 8, "measure": "accuracy", "split": "test",
            "score": "exact_match", "stratum": None, "strength": np.nan, "value": value,
            "unit": unit, "higher_is_better": higher, "rows_key": None, "reason": None,
            "censored": False, "tokens": 8.0, "supervised_tokens": 8.0,
        }
        for arm, of_arm in values.items()
        for seed, value in enumerate(of_arm)
    ]  # fmt: skip
    (primary,) = compare(experiment, pd.DataFrame(rows), Path("nowhere"))
    return MapCell(name, {"model.width": name}, experiment, primary, {}, None)


SEEDS = np.random.default_rng(0).normal(scale=0.0005, size=6)


def test_a_difference_within_the_margin_is_no_win_as_in_the_cell_itself():
    near = {"ntp": 0.51 + SEEDS, "ctp": np.full(6, 0.50)}
    (found,) = pair_maps([cell("8", near, margin=0.05), cell("16", near, margin=0.05)])
    assert [entry.better for entry in found.cells] == [None, None]
    assert "within the margin" in summary(found)
    (found,) = pair_maps([cell("8", near, margin=0.001), cell("16", near, margin=0.001)])
    assert [entry.better for entry in found.cells] == ["ntp", "ntp"]


def test_all_pairs_of_all_cells_are_corrected_together():
    generator = np.random.default_rng(7)
    values = {
        arm: generator.normal(0.5 + 0.02 * k, 0.03, 6) for k, arm in enumerate(("ntp", "ctp", "w"))
    }
    cells = [
        cell("8", values),
        cell("16", {a: v + generator.normal(0, 0.02, 6) for a, v in values.items()}),
    ]
    maps = pair_maps(cells)
    raw = [e.pair.difference.p_value for of_pair in maps for e in of_pair.cells]
    assert len(raw) == 6
    expected = multipletests(raw, method="holm")[1]
    assert [e.holm_p_value for m in maps for e in m.cells] == pytest.approx(expected, rel=1e-9)
    alone = [e for m in maps for e in m.cells if e.pair.difference.p_value < 0.05 < e.holm_p_value]
    assert alone, "the check needs a difference that the correction takes away"
    assert all(entry.better is None for entry in alone)
    assert all(stored_words(entry).endswith("alone, not in the whole map") for entry in alone)
    shown = "not significant after Holm correction over the map"
    assert all(words_of(entry).endswith(shown) for entry in alone)


def test_where_lower_is_better_the_other_arm_wins_and_gives_the_colour():
    losses = {"ntp": 2.0 + SEEDS, "ctp": np.full(6, 1.0)}
    (found,) = pair_maps(
        [cell(n, losses, higher=False, unit="nats per token") for n in ("8", "16")]
    )
    assert [entry.better for entry in found.cells] == ["ctp", "ctp"]
    (trace,) = map_panel(found).figure["data"]
    assert np.allclose(trace["z"], -1, atol=1e-3)  # the full colour of the second arm
    assert trace["colorscale"][0][1] == "var(--arm-1)"


def test_with_a_baseline_only_its_pairs_have_a_map():
    generator = np.random.default_rng(1)
    values = {arm: generator.normal(0.5, 0.03, 4) for arm in ("ntp", "ctp", "w")}
    cells = [cell("8", values), cell("16", values)]
    asked = cells[0].experiment.comparison.model_copy(update={"baseline": "ctp"})
    experiment = cells[0].experiment.model_copy(update={"comparison": asked})
    maps = pair_maps([replace(c, experiment=experiment) for c in cells])
    assert [(m.a, m.b) for m in maps] == [("ntp", "ctp"), ("ctp", "w")]


def test_cells_about_different_scores_keep_their_units_and_have_no_effects():
    first = cell("8", {"ntp": 0.6 + SEEDS, "ctp": np.full(6, 0.5)})
    second = cell("16", {"ntp": 2 + SEEDS, "ctp": np.full(6, 1.0)}, higher=False, unit="nats")
    second = replace(second, primary=replace(second.primary, score="answer_loss"))
    (found,) = pair_maps([first, second])
    assert found.effects == [] and found.reason == "the cells are about different scores"
    panel = map_panel(found)
    ((one, two),) = panel.figure["data"][0]["text"]
    assert "pp" in one and "pp" not in two and "scores differ between cells" in panel.note


def test_a_star_marks_an_arm_below_the_target_on_its_training_items():
    values = {"ntp": 0.6 + SEEDS, "ctp": np.full(6, 0.5)}
    cells = [cell("8", values), cell("16", values)]
    cells = [replace(c, training={"ntp": 0.95, "ctp": 0.6}) for c in cells]
    (found,) = pair_maps(cells)
    panel = map_panel(found)
    ((one, _),) = panel.figure["data"][0]["text"]
    assert one.count("*") == 1 and one.rstrip("</sub>").endswith("*") and "on its own" in panel.note
