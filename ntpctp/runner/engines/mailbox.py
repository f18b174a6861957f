"""What a job tells through a file, where no pipe leads to who started it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ntpctp._core.files import rebuilt

E = TypeVar("E")


@dataclass
class Mailbox(Generic[E]):
    """Events as JSON lines: appended by one process, read by another.

    Attributes:
        path: the file, on a file system that both see.
        kind: the dataclass that events are of.
    """

    path: Path
    kind: type[E]
    _read: int = field(default=0, repr=False)

    def send(self, event: E) -> None:
        """Append an event."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cast(Any, event))) + "\n")

    def receive(self) -> list[E]:
        """Return the events that were sent since the last call; a line half written waits."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read += sum(map(len, whole))
        return [rebuilt(self.kind, json.loads(line)) for line in whole]
