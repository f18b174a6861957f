"""An example as text: an ordered list of segments, each with a role.

prompt     "7+15="
reasoning  ""                     (absent in most tasks)
answer     "22"
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ntpctp.errors import InputError, lookup
from ntpctp.options import Options
from ntpctp.tasks.edits import Edit
from ntpctp.tasks.generic_edits import generic_edits
from ntpctp.tasks.normalisation import Rule

Role = Literal["prompt", "reasoning", "answer", "assistant", "text"]
ROLES: tuple[Role, ...] = ("prompt", "reasoning", "answer", "assistant", "text")
"""``prompt``: given (chat headers, system and user turns too). ``reasoning``: worked out before the
answer. ``answer``: what is judged; the end-of-sequence token belongs to it. ``assistant``: an
assistant's turn before the last one. ``text``: plain text that nothing is asked about."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text and its role."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a chat; the tokenizer's own template renders it.

    ``more`` holds its further fields (tool calls, a name) as JSON; the template decides what it
    does with them.
    """

    role: str
    content: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One item of a task: either segments or chat messages, never both.

    Attributes:
        segments: text in order, prompt first, answer last; or one segment of plain ``text``.
        messages: chat turns, the last one by the assistant: it is the answer.
        choices: candidate answers, the right one among them; empty if the task has none.
        answer_marker: text at the end of the reasoning after which the answer follows. Decoding
            finds the answer behind its last occurrence. Required where there is reasoning.
        source: where the example came from ("file.jsonl, line 3"), for messages.
        spans: characters that the data mark as critical, as (start, end) in the text of the whole
            example as the model reads it.
        references: named answers to compare an answer with, for instance ("symmetric", "17"): they
            tell which of several solutions a model has found, where only one counts as right.
        normalise: rules by which answers are compared, see ``normalisation``.
        judge: by what else an answer is judged, where the task has a function for that; empty for
            none.
        tools: what the assistant may call, as JSON; the chat template renders it.
        strata: named properties, for instance ("hops", "3"): accuracy is also given for the items
            of each level.
    """

    segments: tuple[Segment, ...] = ()
    messages: tuple[Message, ...] = ()
    choices: tuple[str, ...] = ()
    answer_marker: str = ""
    source: str = ""
    references: tuple[tuple[str, str], ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    normalise: tuple[Rule, ...] = ()
    judge: str = ""
    tools: str = ""
    strata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        segments = self.segments
        if len(segments) == 2 and not self.choices and not self.messages:
            # The commonest form by far, and what a million examples are checked for.
            first, last = segments
            if first.role == "prompt" and last.role == "answer" and last.text.strip():
                return
        self._check()

    def _check(self) -> None:
        where = f"{self.source}: " if self.source else ""
        if bool(self.segments) == bool(self.messages):
            raise InputError(f"{where}expected either segments or messages, found both or neither")
        if self.messages and self.messages[-1].role != "assistant":
            raise InputError(
                f"{where}expected the last message to be the assistant's (it is the answer), "
                f"found {self.messages[-1].role!r}"
            )
        if self.is_plain_text:
            if not self.segments[0].text.strip():
                raise InputError(f"{where}empty text: there is nothing to learn")
            return
        if self.segments and self.segments[-1].role != "answer":
            raise InputError(
                f"{where}expected the last segment to be the answer, "
                f"found {self.segments[-1].role!r}"
            )
        calls = self.messages and self.messages[-1].more
        if not (self.answer.strip() or calls):
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
    def is_plain_text(self) -> bool:
        """Whether it is text alone: there is no answer to supervise or to judge."""
        return len(self.segments) == 1 and self.segments[0].role == "text"

    @property
    def answer(self) -> str:
        """The text that is judged; empty for plain text."""
        if self.is_plain_text:
            return ""
        return self.segments[-1].text if self.segments else self.messages[-1].content

    def text(self, role: Role) -> str:
        """The text of all segments with ``role``, joined."""
        return "".join([segment.text for segment in self.segments if segment.role == role])

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two examples the same: everything that the model reads and is asked for."""
        if self.messages:
            turns = (part for m in self.messages for part in (m.role, m.content, m.more))
            return (*turns, self.tools)
        return tuple([segment.text for segment in self.segments])


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

    def source_fingerprint(self) -> str | None:
        """Return what changes whenever anything outside the options changes the examples.

        An empty string where the options decide all, as for generated tasks; None where it cannot
        be known: such examples are read and encoded anew each time. Of a task that is made of
        others, by default what theirs are.
        """
        inner = [task.source_fingerprint() for task in _tasks_in(dict(self))]
        known = [one for one in inner if one is not None]
        return " ".join(filter(None, known)) if len(known) == len(inner) else None

    def further_examples(self) -> Iterator[Example]:
        """Yield what is in no split although a closed vocabulary has to cover it."""
        return iter(())

    def edits(self, split: str) -> Mapping[str, Edit]:
        """Return the ways in which examples of ``split`` may be edited, by name.

        ``contrast``, where there is one, changes the right answer; the others keep it.

        Raises:
            InputError: for an unknown split.
        """
        names = ("train", *self.evaluation_splits)
        return self._edits(lookup({n: n for n in names}, split, f"split of {self.name}"))

    def _edits(self, split: str) -> Mapping[str, Edit]:
        """The edits of a split that there is; by default those of any text."""
        return generic_edits()

    def all_splits(self) -> dict[str, Sequence[Example]]:
        """Return the examples of all splits by name, ``train`` first."""
        return {name: self.split(name) for name in ("train", *self.evaluation_splits)}


def _tasks_in(value: object) -> Iterator[Task]:
    """The tasks within the options of another."""
    if isinstance(value, Task):
        yield value
    elif isinstance(value, Options):
        yield from _tasks_in(dict(value))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tasks_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tasks_in(inner)


def check_disjoint(
    splits: Mapping[str, Sequence[Example]],
    see: Callable[[Example], None] = lambda example: None,
) -> None:
    """Check that no example is in two of ``splits``, which are given by name, ``train`` first.

    Held-out splits of different parts of a mixture (``part.split``) may share examples: neither
    spoils the other.

    Args:
        splits: examples by the name of their split.
        see: called with every example, for what else one pass over all data is to find out.

    Raises:
        InputError: names a shared example and both splits. Costs one pass over all splits and 8
            bytes an example; what has a hash in common is compared in full.
    """
    hashes = {name: _hashes(examples, see) for name, examples in splits.items()}
    for one, other in combinations(splits, 2):
        if one == "train":
            advice = "; a held-out split must not be trained on"
        elif one.rpartition(".")[0] == other.rpartition(".")[0]:
            advice = ""
        else:
            continue
        _refuse_shared(
            (one, splits[one], hashes[one]), (other, splits[other], hashes[other]), advice
        )


def check_unseen(
    trained: Mapping[str, Sequence[Example]], held_out: Mapping[str, Sequence[Example]]
) -> None:
    """Check that no held-out example is trained on, anywhere.

    Raises:
        InputError: as ``check_disjoint``, at the same cost.
    """
    hashes = {name: _hashes(examples) for name, examples in {**trained, **held_out}.items()}
    for one, other in product(trained, held_out):
        _refuse_shared(
            (one, trained[one], hashes[one]),
            (other, held_out[other], hashes[other]),
            "; a held-out split must not be trained on in an earlier stage either",
        )


_Hashed = tuple[str, Sequence[Example], NDArray[np.int64]]
"""A split: name, examples, and the hash of each."""


def _hashes(
    examples: Sequence[Example], see: Callable[[Example], None] = lambda example: None
) -> NDArray[np.int64]:
    found = array("q")
    for example in examples:
        found.append(hash(example.key))
        see(example)
    return np.frombuffer(found, np.int64)


def _refuse_shared(one: _Hashed, other: _Hashed, advice: str) -> None:
    suspects = np.intersect1d(one[2], other[2])
    if not len(suspects):
        return
    seen: dict[tuple[str, ...], str] = {}
    for number in np.flatnonzero(np.isin(one[2], suspects)).tolist():
        example = one[1][number]
        seen.setdefault(example.key, example.source or f"example {number}")
    for number in np.flatnonzero(np.isin(other[2], suspects)).tolist():
        example = other[1][number]
        if example.key in seen:
            raise InputError(
                f"splits {one[0]!r} ({seen[example.key]}) and {other[0]!r} "
                f"({example.source or f'example {number}'}) share an example: "
                f"{' '.join(filter(None, example.key))[:200]!r}{advice}: remove it from one of them"
            )
