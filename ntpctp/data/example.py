"""An example as text: an ordered list of segments, each with a role.

prompt     "7+15="
reasoning  ""                     (absent in most tasks)
answer     "22"
"""

from dataclasses import dataclass
from typing import Literal

from ntpctp._core.errors import InputError
from ntpctp.data.normalisation import Rule

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
