"""Nothing that a user or a file calls by a name leads out of the directory it belongs in."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ntpctp._core import files
from ntpctp._core.errors import InputError
from ntpctp._core.files import read_json, stays_inside, write_json
from ntpctp._core.layout import (
    RunId,
    checkpoint_directory,
    rows_path,
    run_directory,
    stage_directory,
)
from ntpctp._core.options import Name
from ntpctp._core.records import write_sealed
from ntpctp.config import experiment_of
from ntpctp.config.stages import stages_of
from ntpctp.config.suite import Suite
from ntpctp.config.sweep import read_levels, sweep_of, write_levels
from ntpctp.data.lm_eval_export import export
from ntpctp.data.tasks import TASKS
from ntpctp.models import checkpoints
from ntpctp.report.html.figure_files import _slug
from ntpctp.runner.engines.mailbox import Mailbox
from ntpctp.runner.engines.slurm import Slurm, _outcome, _Watched
from ntpctp.runner.location import driver_copy, upload_inputs
from ntpctp.runner.run import exclusive_run
from ntpctp.runner.stores import naming
from tests.conftest import tiny_content

OUTPUT = Path("/somewhere/out")
NASTY = [
    *("..", ".", "", "../x", "a/../../x", "/etc/passwd", "~", "~root", "a/b", "a\\..\\b", "C:\\x"),
    *("a\0b", "a\n", " ", ".hidden", "-rf", "a" * 300, "ok", "ok..ok", "s3://a", "$HOME"),
    *("\uff41", "\uff0e\uff0e", "e\u0301", "\u202e", "{seed}", "%2e%2e", "a:b", "*", "nul"),
]
names = st.sampled_from(NASTY) | st.text(max_size=8) | st.from_regex(r"[./\\a-z0-9_-]{0,8}\n?")
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def inside(path: Path, directory: Path = OUTPUT) -> bool:
    """Whether a path is below a directory, whatever its parts are called."""
    real = Path(os.path.normpath(path))
    return real != directory and real.is_relative_to(directory) and "\0" not in str(path)


@given(names)
@example("ok")
@settings(max_examples=500)
def test_a_name_is_one_visible_part_of_a_path(name):
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        return
    assert Path(name).parts == (name,) and not name.startswith((".", "-"))
    assert name.isascii() and name.isprintable() and len(os.fsencode(name)) <= 100
    assert inside(OUTPUT / name) and stays_inside(name)


@given(names)
@example("ok")
@relaxed
def test_the_names_of_an_experiment_and_its_arms_stay_inside(name):
    for content in (
        tiny_content(name=name),
        tiny_content(arms={name: {"objective": "ntp"}, "other": {"objective": "ctp"}}),
    ):
        try:
            experiment = experiment_of(content, "file")
        except InputError:
            continue
        assert inside(OUTPUT / experiment.name)
        for arm in experiment.arms:
            run = RunId(arm, 0)
            assert inside(run_directory(OUTPUT, run))
            stage = stage_directory(OUTPUT, run)
            assert inside(rows_path(checkpoint_directory(stage, 5), "accuracy"))


@given(names)
@example("ok")
@relaxed
def test_the_levels_of_a_grid_and_of_a_map_stay_inside(name):
    levels = {"training.weight_decay": {name: 0.0, "other": 0.1}}
    try:
        grid = {"objective": ["ntp", "ctp"], **levels}
        arms = experiment_of(tiny_content(arms=None, grid=grid), "file").arms
    except InputError:
        arms = {}
    assert all(inside(run_directory(OUTPUT, RunId(arm, 0))) for arm in arms)
    try:
        cells = sweep_of(tiny_content(map=levels), "file").experiments
    except InputError:
        cells = {}
    assert all(inside(OUTPUT / cell) and Path(cell).parts == (cell,) for cell in cells)
    assert name != "ok" or (len(arms), len(cells)) == (4, 2)


@given(names)
@example("ok")
@relaxed
def test_the_names_of_stages_stay_inside(name):
    stage = {"task": tiny_content()["task"], "training": tiny_content()["training"]}
    arms = {arm: {name: {"objective": arm}, "last": {"objective": "ntp"}} for arm in ("ntp", "ctp")}
    stages = {name: stage, "last": stage}
    content = tiny_content(task=None, training=None, stages=stages, arms=arms)
    try:
        experiments = stages_of(content, "file").experiments(OUTPUT)
    except InputError:
        assert name != "ok"
        return
    assert all(inside(OUTPUT / of_stage) for of_stage in experiments)
    assert all(inside(OUTPUT / e.name) for e in experiments.values())


@given(names)
@example("ok")
@relaxed
def test_the_names_of_suites_tasks_and_parts_stay_inside(name):
    task = tiny_content()["task"]
    mixture = {"name": "mixture", "parts": {name: {"task": task}}}
    for content in ({"name": name}, {"name": "s", "tasks": {name: task}}):
        try:
            suite = Suite.model_validate({"measures": ["accuracy"], **content})
        except ValidationError:
            assert name != "ok"
            continue
        assert inside(OUTPUT / suite.name) and all(inside(OUTPUT / t) for t in suite.tasks)
    try:
        splits = TASKS["mixture"].model_validate(mixture).evaluation_splits
    except ValidationError:
        assert name != "ok"
        return
    assert all(inside(OUTPUT / f"{split}.arrow") for split in splits)


@given(names)
@example("ok")
@relaxed
def test_the_name_of_an_export_stays_inside(tmp_path, name):
    task = TASKS["addition"].model_validate(tiny_content()["task"])
    folder = tmp_path / "deep" / "folder"
    with suppress(InputError):
        export(task, folder, name=name, max_items=1)
    written = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {folder}


@given(names)
@settings(max_examples=500)
def test_what_a_store_lists_stays_inside(name):
    if not naming.is_private(name):
        assert inside(OUTPUT / name)
    assert inside(OUTPUT / name) or not stays_inside(name)
    with suppress(ValueError):
        assert inside(OUTPUT / (naming.part_of(name) or "all"))


@given(names)
@settings(max_examples=300)
def test_the_file_of_a_figure_stays_inside(words):
    assert inside(OUTPUT / f"{_slug(words)}.svg")


@pytest.mark.parametrize("url", ["file:///a/..", "s3://b/../../etc", "s3://b/x/.ssh", "s3://b/~"])
def test_the_working_copy_of_a_store_is_in_the_scratch_directory(url, monkeypatch, tmp_path):
    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path))
    assert inside(driver_copy(url), tmp_path)


@pytest.mark.parametrize("value", ["..", "../data", ".", "./data/.", "data/../.."])
def test_what_is_put_into_a_store_stays_inside(tmp_path, monkeypatch, value):
    from ntpctp.runner.location import location_of

    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path / "scratch"))
    here = tmp_path / "a" / "b"
    (here / "data").mkdir(parents=True)
    (here.parent / "data").mkdir()
    monkeypatch.chdir(here)
    pushed = []
    place = location_of(f"file://{tmp_path}/store")
    monkeypatch.setattr(place.store, "push", pushed.append)
    monkeypatch.setattr(
        "ntpctp.runner.location.shutil.copytree", lambda *a, **k: pushed.append(str(a[1]))
    )
    content = upload_inputs({"seeds": [0], "model": {"checkpoint": value}}, place)
    assert inside(Path(content["model"]["checkpoint"]), place.directory / "inputs")
    assert len(pushed) == 2 and naming.part_of(pushed[1]) == pushed[1]


@pytest.mark.parametrize("cell", ["../elsewhere", "/etc", "..", ".hidden", "a/b", ""])
def test_the_cells_of_a_map_somebody_sent_stay_inside(tmp_path, cell):
    write_sealed(tmp_path / "cells.json", {"name": "map", "cells": {cell: {"f": "1"}}})
    with pytest.raises(InputError, match="expected a name and cells"):
        read_levels(tmp_path)


def test_the_cells_of_an_honest_map_are_read(tmp_path):
    honest = sweep_of(tiny_content(map={"training.steps": [4, 8]}), "file")
    write_levels(honest, tmp_path)
    assert list(read_levels(tmp_path)[1]) == ["steps-4", "steps-8"]


@pytest.mark.parametrize(
    "entry",
    [
        {"job": "1", "events": "../../events.jsonl"},
        {"job": "1", "events": "/etc/passwd"},
        {"job": "../1", "events": f"events-{'0' * 32}.jsonl"},
        {"job": "1; touch ran", "events": f"events-{'0' * 32}.jsonl"},
        {"job": 1},
        "1",
    ],
)
def test_jobs_of_slurm_that_somebody_sent_are_refused(tmp_path, entry):
    pytest.importorskip("submitit")
    folder = tmp_path / ".slurm"
    whole = {"digest": "0", **entry} if isinstance(entry, dict) else entry
    write_sealed(folder / "submitted.json", {"ntp, seed 0": whole})
    with pytest.raises(InputError, match="invalid list of queued jobs"):
        Slurm(folder)._queued({})


def test_the_outcome_of_a_job_is_read_without_its_pickle(tmp_path):
    class Handle:
        job_id = "1"

        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"{name} opens the pickle of the result")

    box = Mailbox(tmp_path / "events.jsonl", dict)
    watched = _Watched("ntp, seed 0", "", Handle(), box)
    write_json(tmp_path / "events.outcome.json", None)
    assert _outcome(watched) is None
    failure = {"message": "full", "traceback": None, "of_machine": True}
    write_json(tmp_path / "events.outcome.json", failure)
    assert _outcome(watched).message == "full"


@pytest.fixture
def precious(tmp_path) -> Path:
    """A directory that no link in an output directory may lead a deletion to."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("precious.safetensors", ".tmp-1-x", "deep/precious.safetensors"):
        (elsewhere / name).write_text("precious")
    return elsewhere


def untouched(precious: Path) -> bool:
    return {path.name: path.read_text() for path in precious.rglob("*") if path.is_file()} == {
        "precious.safetensors": "precious",
        ".tmp-1-x": "precious",
    }


def test_clearing_away_follows_no_link(tmp_path, precious):
    out = tmp_path / "out"
    (out / "inner").mkdir(parents=True)
    (out / ".tmp-2-link").symlink_to(precious)
    (out / "inner" / "link").symlink_to(precious)
    (out / "inner" / ".tmp-3-file").symlink_to(precious / "precious.safetensors")
    files.clear_temporaries(out)
    assert untouched(precious)
    left = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert left == {"inner", "inner/link"}


def test_deleting_and_replacing_a_directory_follows_no_link(tmp_path, precious):
    out = tmp_path / "out"
    out.mkdir()
    for action in (files.delete_directory, replace_directory):
        (out / "step-000001").symlink_to(precious)
        action(out / "step-000001")
        assert untouched(precious)
    assert [path.name for path in out.iterdir()] == ["step-000001"]
    assert not (out / "step-000001").is_symlink()


def replace_directory(path: Path) -> None:
    with files.atomic_directory(path) as temporary:
        (temporary / "new").touch()


@pytest.mark.parametrize("linked", ["checkpoint", "adapter"])
def test_thinning_follows_no_link(tmp_path, precious, linked):
    name = "precious.safetensors"
    checkpoint = tmp_path / "out" / "step-000001"
    if linked == "checkpoint":
        checkpoint.parent.mkdir()
        checkpoint.symlink_to(precious)
    else:
        checkpoint.mkdir(parents=True)
        (checkpoint / "adapter").symlink_to(precious)
        name = f"adapter/{name}"
    entry = {"bytes": 8, "sha256": files.sha256_of(precious / "precious.safetensors")}
    write_json(checkpoint / "manifest.json", {"files": {name: entry}})
    with pytest.raises(InputError, match="lies behind a link"):
        checkpoints.thin(checkpoint)
    assert (precious / "precious.safetensors").read_text() == "precious"
    assert not checkpoints.is_thin(checkpoint)


def test_thinning_in_a_directory_that_is_reached_by_a_link_works(tmp_path):
    real = tmp_path / "real"
    checkpoint = real / "step-000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text("weights")
    entry = {"bytes": 7, "sha256": files.sha256_of(checkpoint / "model.safetensors")}
    write_json(checkpoint / "manifest.json", {"files": {"model.safetensors": entry}})
    (tmp_path / "runs").symlink_to(real)
    checkpoints.thin(tmp_path / "runs" / "step-000001")
    assert read_json(checkpoint / "thin.json") == {"deleted": ["model.safetensors"]}
    assert not (checkpoint / "model.safetensors").exists()


@pytest.mark.parametrize("link", ["ntp", "ntp/seed-0", "ntp/seed-0/train"])
def test_a_run_is_not_worked_on_through_a_link_that_leads_out(tmp_path, precious, link):
    out = tmp_path / "out"
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(precious)
    with pytest.raises(InputError, match="leads out of"), exclusive_run(RunId("ntp", 0), out):
        pass
    assert untouched(precious)


def test_an_output_directory_that_is_a_link_itself_is_fine(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with exclusive_run(RunId("ntp", 0), tmp_path / "out"):
        pass
    assert (tmp_path / "disk" / "ntp" / "seed-0").is_dir()
