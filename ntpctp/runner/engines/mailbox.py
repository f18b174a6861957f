"""Events through a file, for jobs that have no pipe to their driver."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter

from ntpctp._core.files import read_json
from ntpctp.runner.engines.base import Failure

E = TypeVar("E")


@dataclass
class Mailbox(Generic[E]):
    """Events as JSON lines: appended by one process, read by another.

    Attributes:
        path: of the file, on a file system that both processes share.
        event_type: dataclass of the events.
    """

    path: Path
    event_type: type[E]
    _read: int = field(default=0, repr=False)

    def send(self, event: E) -> None:
        """Append an event."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cast(Any, event))) + "\n")

    def receive(self) -> list[E]:
        """Return the events since the last call; an incomplete line is left for the next call."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        complete = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, complete))
        adapter = TypeAdapter(self.event_type)
        return [adapter.validate_json(line) for line in complete]


def read_outcome(path: Path) -> Failure | None:
    """Read the failure that a job wrote as JSON; None: the job succeeded."""
    outcome: TypeAdapter[Failure | None] = TypeAdapter(Failure | None)
    return outcome.validate_python(read_json(path))
