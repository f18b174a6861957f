"""docs/claims.md and docs/claims/: what the page says is what was kept, and what was kept holds."""

import importlib.util
import json
import re

import numpy as np
import pandas as pd
import pytest

from ntpctp.analysis.comparison import read_comparison
from ntpctp.config import load_experiment, load_output
from ntpctp.config.stages import load_stages
from ntpctp.config.sweep import load_sweep
from tests.test_house import ROOT

PAGE = ROOT / "docs/claims.md"
KEPT = ROOT / "docs/claims"
RECIPES = [*sorted((ROOT / "recipes/claims").glob("*.yaml")), ROOT / "recipes/label_noise.yaml"]
EXPERIMENTS = sorted(path.parent for path in KEPT.rglob("comparison.json"))


def claims():
    """The script as a module: it is no part of the package."""
    spec = importlib.util.spec_from_file_location("claims", ROOT / "scripts/claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_tables_of_the_page_are_those_of_the_kept_results():
    text = PAGE.read_text("utf-8")
    module = claims()
    assert len(module.BLOCK.findall(text)) >= 10
    assert module.with_tables(text, KEPT) == text


@pytest.mark.slow
def test_a_number_that_is_changed_by_hand_is_put_right():
    module = claims()
    blocks = (match.group() for match in module.BLOCK.finditer(PAGE.read_text("utf-8")))
    number = re.compile(r"\| \d+\.\d\N{NO-BREAK SPACE}%")
    block = next(block for block in blocks if number.search(block))
    changed = number.sub("| 99.9 %", block, count=1)
    assert changed != block and module.with_tables(changed, KEPT) == block


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_its_results_and_its_place_on_the_page(path):
    assert str(path.relative_to(ROOT)) in PAGE.read_text("utf-8")
    kept = KEPT / path.stem
    if found := load_sweep(path):
        asked = {kept / cell: experiment for cell, experiment in found.experiments.items()}
    elif stages := load_stages(path):
        asked = {kept / stage: None for stage in stages.stages}
    else:
        asked = {kept: load_experiment(path)}
    for directory, experiment in asked.items():
        done = load_output(directory)
        if experiment is not None:
            assert done.model_dump(mode="json") == experiment.model_dump(mode="json")


@pytest.mark.parametrize("directory", EXPERIMENTS, ids=lambda d: str(d.relative_to(KEPT)))
@pytest.mark.slow
def test_means_are_those_of_the_table_of_scores(directory):
    frame = pd.read_parquet(directory / "scores.parquet")
    experiment = load_output(directory)
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = frame[frame["step"] == frame["arm"].map(last)]
    checked = 0
    for score in read_comparison(directory)["scores"]:
        own = final[
            (final["measure"] == score["measure"])
            & (final["split"] == score["split"])
            & (final["score"] == score["score"])
            & (
                final["stratum"].eq(score["stratum"])
                | (final["stratum"].isna() & (score["stratum"] is None))
            )
            & (
                final["strength"].eq(score["strength"])
                | (final["strength"].isna() & (score["strength"] is None))
            )
        ]
        for arm, spread in score["arms"].items():
            values = own[own["arm"] == arm]["value"].dropna()
            if spread is None:
                # A mean of the seeds that arrive would leave out the slow ones.
                assert not len(values) or own[own["arm"] == arm]["censored"].any()
                continue
            assert len(values) == spread["num_seeds"]
            assert np.mean(values) == pytest.approx(spread["mean"], rel=1e-9, abs=1e-12)
            checked += 1
    assert checked >= 4


def test_nothing_of_a_machine_and_no_weights_are_kept():
    files = [path for path in KEPT.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".yaml", ".json", ".parquet", ".svg"}
    assert sum(path.stat().st_size for path in files) < 20e6
    for path in files:
        if path.suffix != ".parquet":
            text = path.read_text("utf-8")
            assert not re.search(r"/(work|home|root|tmp|Users)/", text), path


def test_pictures_of_the_page_are_there():
    named = re.findall(r"\((claims/[^)]+\.svg)\)", PAGE.read_text("utf-8"))
    assert len(named) >= 5
    for name in named:
        assert (ROOT / "docs" / name).is_file()


def test_curvature_is_kept_where_it_was_followed():
    found = sorted(KEPT.rglob("equal-loss.json"))
    assert found
    for path in found:
        for arms in json.loads(path.read_text()).values():
            runs = [run for seeds in arms.values() for run in seeds.values()]
            assert all(step >= 0 and loss > 0 for run in runs for step, loss, _ in run)
