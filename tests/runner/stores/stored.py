"""What the tests of stores put into them, and how they look at it from outside."""

import hashlib
import json
from pathlib import Path

import fsspec

STEP = "ntp/seed-0/train/step-000002"


def write_checkpoint(path: Path, *, adapter: bool = True, **changes: str) -> None:
    """What counts as a checkpoint here: files and a manifest of them."""
    contents = {
        **({"adapter/adapter_config.json": "{}"} if adapter else {}),
        "model.safetensors": "weights" * 100,
        "trainer_state.json": '{"step": 2}',
        **{name.replace("__", "."): content for name, content in changes.items()},
    }
    files = {}
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
        digest = hashlib.sha256(content.encode()).hexdigest()
        files[name] = {"bytes": len(content), "sha256": digest}
    (path / "manifest.json").write_text(json.dumps({"files": files}))


def write_results(checkpoint: Path, measure: str = "accuracy", rows: str = "{}\n{}\n") -> None:
    """What a measure stores."""
    directory = checkpoint / "evaluation"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{measure}.jsonl").write_text(rows)
    digest = hashlib.sha256(rows.encode()).hexdigest()
    (directory / f"{measure}.json").write_text(json.dumps({"rows_sha256": digest, "scores": []}))


def tree(root: Path) -> dict[str, bytes]:
    """The content of every file below a directory."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


class Remote:
    """The store as another host sees it, past our own code."""

    def __init__(self, url: str):
        self.system, self.base = fsspec.core.url_to_fs(
            url, **({"use_listings_cache": False} if url.startswith("s3") else {})
        )
        self.base = self.base.rstrip("/")

    def names(self) -> set[str]:
        return {name.removeprefix(f"{self.base}/") for name in self.system.find(self.base)}

    def read(self, name: str) -> bytes:
        return self.system.cat_file(f"{self.base}/{name}")

    def write(self, name: str, content: bytes) -> None:
        path = f"{self.base}/{name}"
        if self.system.protocol[0] != "s3":
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.system.pipe_file(path, content)

    def delete(self, name: str) -> None:
        self.system.rm_file(f"{self.base}/{name}")
