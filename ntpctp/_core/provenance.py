"""The origin of a result: versions, commit, machine. No environment variable is recorded."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ntpctp
from ntpctp._core.layout import run_again
from ntpctp._core.records import read_sealed

PROVENANCE = "provenance.json"

_PACKAGES = (
    "ntpctp",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "pydantic",
)


def provenance() -> dict[str, Any]:
    """Return library versions, the commit of a source checkout, and the machine type."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git": _git(Path(ntpctp.__file__).parent),
        "machine": {
            "system": platform.system(),
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def read_provenance(output: Path) -> dict[str, Any]:
    """Return the content of an experiment's ``provenance.json``, empty if there is no such file.

    Raises:
        InputError: if the file is damaged.
    """
    path = output / PROVENANCE
    return read_sealed(path, f"{run_again(output)} writes it again") if path.is_file() else {}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(directory: Path) -> dict[str, Any] | None:
    """Return the commit and whether files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "changed": bool(git("status", "--porcelain", "--", ".")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
