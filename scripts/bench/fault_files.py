"""Files of an experiment: read without times, compared, checked and damaged."""

import hashlib
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp._core.files import TEMPORARY, sha256_of
from ntpctp._core.layout import EXPERIMENT, LOG, RESULTS
from ntpctp.models import checkpoints

CLOCK = ("seconds", "tokens_per_second")
_RESULTS = (EXPERIMENT, "audit.json", "flops.json", "scores.parquet", "comparison.json")
_NO_RESULT = ("worker.json", "failure.json", ".lock")

Contents = dict[str, Any]
"""Path below the output -> checksum, or content without times."""


def contents(output: Path) -> Contents:
    """Return everything that must be equal to an undisturbed experiment, without times.

    Weights, optimizer states, tokenizers, counters, rows, scores, logs and settings of all runs,
    and the files of the whole experiment. For the report only its existence counts.
    """
    found: Contents = {
        name: of_file(output / name) for name in _RESULTS if (output / name).exists()
    }
    found["report.html"] = (output / "report.html").is_file()
    for path in sorted(output.rglob("seed-*/**/*")):
        if path.is_file() and path.name not in _NO_RESULT:
            found[str(path.relative_to(output))] = of_file(path)
    found |= {str(path.relative_to(output)): "left over" for path in leftovers(output)}
    return found


def leftovers(output: Path) -> list[Path]:
    """Return temporary files: being written, or left by killed processes."""
    return sorted(path for path in everything(output) if path.name.startswith(TEMPORARY))


def everything(directory: Path) -> list[Path]:
    """Return files and directories below a directory that may change meanwhile."""
    return sorted(
        Path(where) / name for where, below, files in os.walk(directory) for name in below + files
    )


def of_file(path: Path) -> Any:
    """Return the content of a file without times, or its checksum."""
    if path.name == LOG:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]
    if path.name == "trainer_state.json":
        return {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k not in CLOCK}
    if path.name == "manifest.json":
        return sorted(json.loads(path.read_text("utf-8"))["files"])
    if path.name == "run.json":
        return json.loads(path.read_text("utf-8"))["run"]
    if path.parent.name == RESULTS and path.suffix == ".json":
        record = json.loads(path.read_text("utf-8"))
        return record["scores"], record["rows_sha256"]
    return sha256_of(path)


def differences(found: Contents, expected: Contents) -> list[str]:
    """Return the paths that differ."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def finished(output: Path) -> dict[str, str]:
    """Return path -> checksum of all files of finished checkpoints and scores."""
    found = {}
    for stage in sorted(output.rglob("seed-*/train")):
        for checkpoint in checkpoints.list_checkpoints(stage):
            for path in sorted(checkpoint.rglob("*")):
                inside = path.relative_to(checkpoint)
                if not path.is_file() or any(part.startswith(".") for part in inside.parts):
                    continue
                # Rows count as finished only with their scores.
                if path.parent.name != RESULTS or path.with_suffix(".json").is_file():
                    found[str(path.relative_to(output))] = sha256_of(path)
    return found


def lost(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the finished files that are now missing or changed."""
    return [name for name, checksum in before.items() if after.get(name) != checksum]


def corrupt(output: Path, expected: Contents) -> list[str]:
    """Return problems of finished files that are damaged or unlike the undisturbed run."""
    found = []
    for stage in sorted(output.rglob("seed-*/train")):
        for checkpoint in checkpoints.list_checkpoints(stage):
            try:
                checkpoints.verify(checkpoint)
            except ValueError as error:
                found.append(str(error))
    for name in finished(output):
        if Path(name).name == "manifest.json":
            continue
        try:
            same = of_file(output / name) == expected.get(name)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            found.append(f"{name} is not that of the undisturbed run")
    return found


@dataclass(frozen=True)
class Damage:
    """A file that was damaged while no command ran."""

    path: Path
    how: str

    def __str__(self) -> str:
        return f"{self.path}: {self.how}"


def damage(path: Path, how: str, moments: random.Random) -> Damage:
    """Truncate, flip one bit of, empty or delete a file."""
    data = bytearray(path.read_bytes())
    match how:
        case "deleted":
            path.unlink()
            return Damage(path, how)
        case "truncated":
            size = moments.randrange(len(data))
            data, how = data[:size], f"truncated to {size} of {len(data)} bytes"
        case "flipped":
            position, bit = moments.randrange(len(data)), moments.randrange(8)
            data[position] ^= 1 << bit
            how = f"bit {bit} of byte {position} flipped"
        case "emptied":
            data = bytearray()
    path.write_bytes(data)
    return Damage(path, how)


def _has_content(path: Path) -> bool:
    """Return whether a file exists and is not empty; temporary files may vanish at any moment."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except FileNotFoundError:
        return False


def targets(home: Path, output: Path) -> dict[str, list[Path]]:
    """Return kind of file -> files that can be damaged."""
    files = [path for path in everything(output) if path.is_file()]
    in_checkpoints = [p for p in files if p.parent.name.startswith("step-")]
    results = [p for p in files if p.parent.name == RESULTS]
    heavy = ("model.safetensors", "optimizer.safetensors", "trainer_state.json", "manifest.json")
    found = {name: [p for p in in_checkpoints if p.name == name] for name in heavy}
    found["interval.json"] = [p for p in in_checkpoints if p.name == checkpoints.INTERVAL]
    found["config, tokenizer and others"] = [
        p for p in in_checkpoints if p.name not in (*heavy, checkpoints.INTERVAL)
    ]
    found["rows"] = [p for p in results if p.suffix == ".jsonl"]
    found["scores"] = [p for p in results if p.suffix == ".json"]
    for name in (LOG, "run.json", "worker.json", "failure.json"):
        found[name] = [p for p in files if p.name == name and output != p.parent]
    for name in (*_RESULTS, "provenance.json"):
        found[name] = [output / name]
    found["encoded data"] = [p for p in everything(home / ".encoded") if p.is_file()]
    return {
        kind: sorted(path for path in paths if _has_content(path)) for kind, paths in found.items()
    }


def digest(found: Contents) -> str:
    """Return one checksum of ``contents``."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]
