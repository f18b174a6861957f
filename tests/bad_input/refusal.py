"""What every bad input has to meet: a clear message, an exit code, and nothing written or lost."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import tiny_content


@dataclass(frozen=True)
class Case:
    """A command that is to be refused; ``DIR`` stands for the directory that it is started in.

    Attributes:
        arguments: of ``ntpctp``.
        messages: all of them must be said.
        files: name -> content, written before; None makes a directory.
        make: called with the directory, for what takes more than writing a file.
        environment: variables of the process.
        code: how the command has to end.
    """

    arguments: Sequence[str]
    messages: Sequence[str]
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    make: Callable[[Path], object] = lambda directory: None
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = 2

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two inputs the same."""
        files = tuple(sorted((name, str(content)) for name, content in self.files.items()))
        environment = tuple(sorted(self.environment.items()))
        return tuple(self.arguments), files, self.make.__qualname__, id(self.make), environment


def experiment(
    changes: Mapping[str, Any],
    messages: Sequence[str],
    *overrides: str,
    command: str = "run",
    files: Mapping[str, str | bytes | None] | None = None,
    **more: Any,
) -> Case:
    """Return a case about the content of an experiment file: a small one with ``changes``."""
    text = yaml.safe_dump(tiny_content(**changes), sort_keys=False)
    return experiment_text(text, messages, *overrides, command=command, files=files, **more)


def experiment_text(
    text: str | bytes,
    messages: Sequence[str],
    *overrides: str,
    command: str = "run",
    files: Mapping[str, str | bytes | None] | None = None,
    **more: Any,
) -> Case:
    """Return a case about the experiment file itself."""
    arguments = [command, "DIR/experiment.yaml", *overrides]
    if command == "run":
        arguments += ["--output", "DIR/out"]
    return Case(arguments, messages, {"experiment.yaml": text, **(files or {})}, **more)


def listing(directory: Path) -> dict[str, str]:
    """Return all that is in a directory, with checksums.

    Encoded data are a cache, and locks say nothing: they are left out, and so are directories that
    hold nothing else.
    """
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.name == ".lock" or ".encoded" in path.parts:
            continue
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not path.is_dir():
            found[name] = "neither a file nor a directory"
        elif not any(path.iterdir()):
            found[name] = "an empty directory"
    return found


def check(case: Case, ntpctp: Callable[..., Any], directory: Path, monkeypatch: Any) -> None:
    """Let ``case`` be refused."""
    for name, content in case.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_bytes(content.replace("DIR", str(directory)).encode())
    case.make(directory)
    monkeypatch.chdir(directory)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value.replace("DIR", str(directory)))
    before = listing(directory)
    outcome = ntpctp(*[part.replace("DIR", str(directory)) for part in case.arguments])
    said = outcome.err
    assert outcome.code == case.code, outcome
    assert "Traceback" not in said and "Traceback" not in outcome.out, outcome
    for message in case.messages:
        assert message.replace("DIR", str(directory)) in said, said
    assert len(said) < 5000, f"nobody reads {len(said)} characters"
    assert listing(directory) == before
