"""Everything that reads what a user, or a damaged disk, may have put into a file.

A reader is given bytes. It may accept them, or refuse them by an ``InputError``; anything else
that comes out is a fault of this program.
"""

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml

from ntpctp._core.files import read_json, read_jsonl, write_json
from ntpctp._core.layout import LOG, RunId, stage_directory
from ntpctp._core.records import write_sealed
from ntpctp._core.yaml_loader import parse_value, read_yaml
from ntpctp.config import apply_override, experiment_of, load_experiment
from ntpctp.config.stages import load_stages, stages_of
from ntpctp.config.suite import load_suite
from ntpctp.config.sweep import load_sweep, read_levels, sweep_of
from ntpctp.data.tasks import TASKS
from ntpctp.data.tokenize import load_tokenizer
from ntpctp.models import checkpoints
from ntpctp.models.build import load_model, stated_context
from ntpctp.models.options import ModelOptions
from ntpctp.runner.status import run_statuses
from ntpctp.runner.summary import read_summary
from tests.conftest import TINY
from tests.models.external_checkpoints import save_foreign

SHA_OF_BRACES = hashlib.sha256(b"{}").hexdigest()
PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published"


@dataclass(frozen=True)
class Reader:
    """Something that reads bytes.

    Attributes:
        read: called with an empty directory that it may use, and the bytes.
        good: what it accepts; mutations start from these.
        cost: how many times as long as a small file it takes, for sharing out time.
    """

    read: Callable[[Path, bytes], object]
    good: Sequence[bytes]
    cost: int = 1


def text_of(content: Any) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()


def rows_of(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def sealed_reader(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Give ``read`` records with a checksum that holds, as somebody may make them on purpose."""

    def act(directory: Path, content: bytes) -> object:
        path = directory / name
        path.write_bytes(content)
        found = read_json(path)
        with suppress(ValueError):  # of NaN no record is made
            if isinstance(found, dict):
                write_sealed(path, found)
        return read(path)

    return act


def file_reader(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Return a reader of a file."""

    def act(directory: Path, content: bytes) -> object:
        path = directory / name
        path.write_bytes(content)
        return read(path)

    return act


def task_reader(name: str, **options: Any) -> Callable[[Path, bytes], object]:
    """Return a reader of the data file of a task."""
    field = "train_path" if name == "prosqa" else "path"

    def read(path: Path) -> object:
        return (
            TASKS[name].model_validate({"name": name, field: str(path), **options}).split("train")
        )

    return file_reader("data", read)


def run_any(path: Path) -> object:
    """Read an experiment file as ``ntpctp run`` does, whatever kind it is of."""
    found = load_sweep(path)
    if found is not None:
        return found
    stages = load_stages(path)
    return load_experiment(path) if stages is None else stages.experiments(path.parent / "out")


# Of all kinds of files.
STAGES = {
    "name": "both",
    "model": TINY["model"],
    "seeds": 1,
    "grid": {"first.objective": ["ntp", "ctp"], "second.training.weight_decay": [0, 0.1]},
    "stages": {
        "first": {"task": TINY["task"], "training": TINY["training"]},
        "second": {"task": {"name": "modular"}, "training": TINY["training"], "objective": "ntp"},
    },
}
MAP = {**TINY, "map": {"task.train_size": [40, 60], "model.width": {"thin": 8, "wide": 16}}}
GRID = {
    **{key: value for key, value in TINY.items() if key != "arms"},
    "grid": {"objective": ["ntp", "ctp"], "training.weight_decay": [0.0, 0.1]},
}
SUITE = {"name": "s", "tasks": {"sums": TINY["task"]}, "measures": ["accuracy"]}
CONTENTS = [TINY, GRID, STAGES, MAP]
ROWS = (
    {"prompt": "1+1=", "answer": "2", "choices": ["2", "3"], "spans": [[0, 1]]},
    {"prompt": "größer? 😀", "answer": "ja", "reasoning": "so"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"prompt": "x", "answer": "y", "tools": []},
)
CSV = b'prompt,answer,choices\n1+1=,2,"[""2"", ""3""]"\n"a, b",c,\n'


def parquet() -> bytes:
    file = io.BytesIO()
    columns = {"prompt": ["a", "b", "c"], "answer": ["1", "2", "3"], "spans": [None, [[0, 1]], []]}
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def resolved() -> bytes:
    return text_of(experiment_of(TINY, "tiny").model_dump(mode="json"))


def settle(content: Any) -> None:
    """Read the content of an experiment file, of whatever kind it is."""
    if "map" in content:
        sweep_of(content, "fuzz")
    elif "stages" in content:
        stages_of(content, "fuzz").experiments(Path("out"))
    else:
        experiment_of(content, "fuzz")


def state_reader(name: str) -> Callable[[Path, bytes], object]:
    """Return a reader of a file that says how far a run is."""

    def act(directory: Path, content: bytes) -> object:
        (directory / "experiment.yaml").write_bytes(resolved())
        path = directory / "ntp" / "seed-0" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return list(run_statuses(read_summary(directory), directory))

    return act


def checkpoint_reader(name: str) -> Callable[[Path, bytes], object]:
    """Return a reader of one of the files that say what a checkpoint is."""

    def act(directory: Path, content: bytes) -> object:
        stage = stage_directory(directory, RunId("a", 0))
        path = stage / "step-000001"
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        manifest = {"config.json": {"bytes": 2, "sha256": SHA_OF_BRACES}}
        write_json(path / checkpoints.MANIFEST, {"files": manifest})
        (path / name).write_bytes(content)
        checkpoints.resume_point(stage, [1])
        checkpoints.verify(path)
        return checkpoints.read_interval(path)

    return act


def asked_reader(directory: Path, content: bytes) -> object:
    (directory / "experiment.yaml").write_bytes(content)
    asked = read_summary(directory)
    return asked.runs()


def override_reader(directory: Path, content: bytes) -> object:
    text = content.decode("utf-8", "replace")
    return apply_override({"model": {"layers": 1}, "seeds": 2, "task": "addition"}, text)


def value_reader(directory: Path, content: bytes) -> object:
    return parse_value(content.decode("utf-8", "replace"))


@cache
def foreign() -> Path:
    """A small checkpoint, made once a process."""
    return save_foreign(Path(tempfile.mkdtemp(prefix="ntpctp-fuzz-")) / "model", TINY["task"])


def model_reader(name: str) -> Callable[[Path, bytes], object]:
    """Return a reader of one of the files of a checkpoint of another program."""

    def act(directory: Path, content: bytes) -> object:
        path = directory / "model"
        shutil.copytree(foreign(), path)
        (path / name).write_bytes(content)
        load_tokenizer(str(path))
        stated_context(ModelOptions(checkpoint=str(path)), 0)
        return None if name.startswith("tokenizer") else load_model(path)

    return act


def published(name: str) -> Sequence[bytes]:
    """The files of a published layout that the tests have, cut to some kilobytes."""
    return [path.read_bytes()[:4000] for path in sorted(PUBLISHED.glob(f"{name}*"))]


def readers() -> dict[str, Reader]:
    """Return all readers by name."""
    files = foreign()
    found = {
        "experiment": Reader(
            file_reader("experiment.yaml", run_any), [*map(text_of, (TINY, GRID, STAGES, MAP))], 4
        ),
        "suite": Reader(file_reader("suite.yaml", load_suite), [text_of(SUITE)], 2),
        "yaml": Reader(
            file_reader("a.yaml", read_yaml), [text_of(TINY), b"a: &a {b: 1}\nc: *a\n<<: *a\n"]
        ),
        "value": Reader(value_reader, [b"1e-3", b"[0, 1]", b"{a: 2024-01-01}", b"!!set {a, b}"]),
        "override": Reader(override_reader, [b"training.steps=5", b"map.a.b=[1, 2]"]),
        "asked": Reader(asked_reader, [resolved()], 2),
        "json": Reader(file_reader("a.json", read_json), [b'{"a": [1, 2.5, null, "\\u00e4"]}']),
        "json lines": Reader(file_reader("a.jsonl", read_jsonl), [rows_of(*ROWS)]),
        "levels": Reader(
            sealed_reader("cells.json", lambda path: read_levels(path.parent)),
            [b'{"name": "when", "cells": {"a": {"x": "1"}, "b": {"x": "2"}}}'],
        ),
        "log": Reader(
            state_reader(f"train/{LOG}"), [b'{"step": 2, "loss": 1.5, "seconds": 0.1}\n'], 8
        ),
        "worker": Reader(
            state_reader("worker.json"), [b'{"host": "a", "process": 1, "alive": 1.5}'], 8
        ),
        "failure": Reader(
            state_reader("failure.json"), [b'{"message": "a", "traceback": null, "time": 1.0}'], 8
        ),
        "manifest": Reader(
            checkpoint_reader(checkpoints.MANIFEST),
            [
                json.dumps(
                    {"files": {"config.json": {"bytes": 2, "sha256": SHA_OF_BRACES}}}
                ).encode()
            ],
        ),
        "thin": Reader(checkpoint_reader(checkpoints.THIN), [b'{"deleted": ["config.json"]}']),
        "interval": Reader(checkpoint_reader(checkpoints.INTERVAL), [b'{"loss": 1.5}']),
        "jsonl": Reader(task_reader("jsonl"), [rows_of(*ROWS)]),
        "jsonl with strata": Reader(
            task_reader("jsonl", strata=["hops"], pattern="[0-9]+", normalise=["case"]),
            [rows_of(*({**row, "hops": 2} for row in ROWS[:2]))],
        ),
        "csv": Reader(task_reader("csv"), [CSV]),
        "parquet": Reader(task_reader("parquet"), [parquet()]),
        "prosqa": Reader(
            task_reader("prosqa"), [(PUBLISHED.parent / "prosqa_few.json").read_bytes()], 4
        ),
        "tokenizer": Reader(
            model_reader("tokenizer.json"), [(files / "tokenizer.json").read_bytes()], 8
        ),
        "tokenizer's settings": Reader(
            model_reader("tokenizer_config.json"),
            [(files / "tokenizer_config.json").read_bytes()],
            8,
        ),
        "config": Reader(model_reader("config.json"), [(files / "config.json").read_bytes()], 16),
        "weights": Reader(
            model_reader("model.safetensors"), [(files / "model.safetensors").read_bytes()], 16
        ),
    }
    for name in TASKS["published"].model_fields["format"].annotation.__args__:  # type: ignore[union-attr]
        found[name] = Reader(task_reader("published", format=name), published(name))
    return found
