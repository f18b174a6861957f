"""What runs leave behind, so that two ways of executing them can be compared bit for bit."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def contents(output: Path) -> dict[str, Any]:
    """Of all runs: weights and optimizer of every checkpoint, rows, scores, log without times."""
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
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            timed = ("seconds", "tokens_per_second")
            found[name] = [{k: v for k, v in x.items() if k not in timed} for x in lines]
    return found
