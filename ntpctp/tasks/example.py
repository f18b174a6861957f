"""An example as text: an ordered list of segments, each with a role.

prompt     "7+15="
reasoning  ""                     (absent in most tasks)
answer     "22"
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ntpctp.errors import InputError
from ntpctp.options import Options

Role = Literal["prompt", "reasoning", "answer", "assistant"]
ROLES: tuple[Role, ...] = ("prompt", "reasoning", "answer", "assistant")
"""``prompt``: given (chat headers, system and user turns too). ``reasoning``: worked out before the
answer. ``answer``: what is judged; the end-of-sequence token belongs to it. ``assistant``: an
assistant's turn before the last one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text and its role."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a chat; the tokenizer's own template renders it."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a task: either segments or chat messages, never both.

    Attributes:
        segments: text in order, prompt first, answer last.
        messages: chat turns, the last one by the assistant: it is the answer.
        choices: candidate answers, the right one among them; empty if the task has none.
        answer_marker: text at the end of the reasoning after which the answer follows. Decoding
            finds the answer behind its last occurrence. Required where there is reasoning.
        source: where the example came from ("file.jsonl, line 3"), for messages.
        spans: characters that the data mark as critical, as (start, end) in the text of the whole
            example as the model reads it.
        references: named answers to compare an answer with, for instance ("symmetric", "17"): they
            tell which of several solutions a model has found, where only one counts as right.
    """

    segments: tuple[Segment, ...] = ()
    messages: tuple[Message, ...] = ()
    choices: tuple[str, ...] = ()
    answer_marker: str = ""
    source: str = ""
    references: tuple[tuple[str, str], ...] = ()
    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        where = f"{self.source}: " if self.source else ""
        if bool(self.segments) == bool(self.messages):
            raise InputError(f"{where}expected either segments or messages, found both or neither")
        if self.messages and self.messages[-1].role != "assistant":
            raise InputError(
                f"{where}expected the last message to be the assistant's (it is the answer), "
                f"found {self.messages[-1].role!r}"
            )
        if self.segments and self.segments[-1].role != "answer":
            raise InputError(
                f"{where}expected the last segment to be the answer, "
                f"found {self.segments[-1].role!r}"
            )
        if not self.answer.strip():
            raise InputError(f"{where}empty answer: there is nothing to supervise or to judge")
        if self.choices and self.answer not in self.choices:
            raise InputError(
                f"{where}the answer {self.answer!r} is not among the choices {list(self.choices)}"
            )
        reasoning = self.text("reasoning")
        if reasoning and not (self.answer_marker and reasoning.endswith(self.answer_marker)):
            raise InputError(
                f"{where}the reasoning must end with a non-empty answer marker "
                f"(here {self.answer_marker!r}), so that the answer can be told from it"
            )

    @property
    def answer(self) -> str:
        """The text that is judged."""
        return self.segments[-1].text if self.segments else self.messages[-1].content

    def text(self, role: Role) -> str:
        """The text of all segments with ``role``, joined."""
        return "".join(segment.text for segment in self.segments if segment.role == role)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two examples the same: everything that the model reads and is asked for."""
        if self.messages:
            return tuple(part for m in self.messages for part in (m.role, m.content))
        return tuple(segment.text for segment in self.segments)


class Task(Options, ABC):
    """The options of a task and the examples that they define.

    A subclass has a ``name: Literal["..."]`` field, its options, and the two methods; adding it to
    ``TASKS`` is all that a new task needs. Examples are deterministic in the options alone: all
    arms and seeds of an experiment see the same data.
    """

    name: str

    pieces: ClassVar[Literal["characters", "words"] | None] = None
    """How a closed vocabulary cuts this task's text; None: the text is open, give a tokenizer."""

    @property
    @abstractmethod
    def evaluation_splits(self) -> tuple[str, ...]:
        """Names of the held-out splits, the main one first. The training split is ``train``."""

    @abstractmethod
    def split(self, name: str) -> Sequence[Example]:
        """Return the examples of the split ``name``, always the same ones in the same order.

        Raises:
            InputError: if the options or the files do not allow it; names what to change.
        """

    def all_splits(self) -> dict[str, Sequence[Example]]:
        """Return the examples of all splits by name, ``train`` first."""
        return {name: self.split(name) for name in ("train", *self.evaluation_splits)}


def check_disjoint(splits: Mapping[str, Sequence[Example]]) -> None:
    """Check that no example is in two of ``splits``, which are given by name, ``train`` first.

    Raises:
        InputError: names the first shared example and both splits. Costs one pass over all splits.
    """
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for name, examples in splits.items():
        for number, example in enumerate(examples):
            other, where = seen.get(example.key, (name, ""))
            here = example.source or f"example {number}"
            if other != name:
                raise InputError(
                    f"splits {other!r} ({where}) and {name!r} ({here}) share an example: "
                    f"{' '.join(example.key)[:200]!r}; a held-out split must not be trained on: "
                    "remove it from one of them"
                )
            seen[example.key] = (name, here)
