"""What runs leave behind, so that two ways of executing them can be compared bit for bit."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def contents(output: Path) -> dict[str, Any]:
    """Weights, optimizer states, item results and scores of all checkpoints; logs of all runs."""
    found = {}
    for path in sorted(output.rglob("seed-*/train/**/*")):
        name = str(path.relative_to(output))
        if path.suffix == ".safetensors":
            found[name] = {key: value.tolist() for key, value in load_file(path).items()}
        elif path.parent.name == "evaluation" and path.suffix == ".jsonl":
            found[name] = path.read_text()
        elif path.parent.name == "evaluation" and path.suffix == ".json":
            found[name] = json.loads(path.read_text())["scores"]
        elif path.name == "log.jsonl":
            found[name] = untimed_log(path.parent)
    return found


def untimed_log(stage: Path) -> list[dict[str, Any]]:
    """The lines of a training log without the fields that a clock decides."""
    timed = ("seconds", "tokens_per_second")
    lines = [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]
