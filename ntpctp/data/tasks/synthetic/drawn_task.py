"""The base of tasks whose examples are drawn one by one, with a share of prompts kept for tests."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

from ntpctp._core.errors import lookup
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.synthetic.drawing import Draw, draw_split


class DrawnTask(Task):
    """A task in words whose splits ``draw_split`` makes; a subclass says how an example is drawn.

    A subclass has the field ``seed``. (Declared here, it would be listed before all others.)
    """

    pieces: ClassVar[Literal["words"]] = "words"

    @property
    @abstractmethod
    def _draws(self) -> Mapping[str, tuple[int, Draw]]:
        """The number of examples of each split, and how one is drawn; ``train`` first."""

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(name for name in self._draws if name != "train")

    @cached_property
    def _splits(self) -> dict[str, list[Example]]:
        return {}

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        size, draw = lookup(self._draws, name, f"split of {self.name}")
        if name not in self._splits:
            self._splits[name] = draw_split(
                draw,
                size,
                self.seed,  # type: ignore[attr-defined]
                self.name,
                name,
                for_test=name != "train",
            )
        return self._splits[name]
