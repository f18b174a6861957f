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
"""``prompt``: the input (in a chat also headers, system and user turns). ``reasoning``: the steps
before the answer. ``answer``: the text that is judged, with the end-of-sequence token.
``assistant``: a turn of the assistant before the last one. ``text``: plain text without an answer.
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text and its role."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a chat, rendered by the tokenizer's chat template.

    ``more`` holds further fields (tool calls, a name) as JSON, which are passed to the template.
    """

    role: str
    content: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a task: either segments or chat messages, never both.

    Attributes:
        segments: text in order, prompt first, answer last; or one segment of plain ``text``.
        messages: chat turns; the last one, by the assistant, is the answer.
        choices: candidate answers including the correct one; empty if the task has none.
        answer_marker: text that ends the reasoning; the answer of a model is the text after its
            last occurrence. Required if there is reasoning.
        source: origin of the example ("file.jsonl, line 3"), for messages.
        spans: character spans (start, end) that the data mark as critical, in the text of the
            whole example as the model reads it.
        references: named alternative answers, for instance ("symmetric", "17"): they tell which of
            several solutions a model has learned, although only the answer counts as correct.
        normalise: rules by which answers are compared, see ``normalisation``.
        judge: argument of the task's own scoring function; empty if the task has none.
        tools: tools of the assistant, as JSON; rendered by the chat template.
        strata: named properties, for instance ("hops", "3"); accuracy is also reported for the
            items of each level.
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
            # A fast path: nearly all of a million examples have this form.
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
                raise InputError(f"{where}empty text")
            return
        if self.segments and self.segments[-1].role != "answer":
            raise InputError(
                f"{where}expected the last segment to be the answer, "
                f"found {self.segments[-1].role!r}"
            )
        calls = self.messages and self.messages[-1].more
        if not (self.answer.strip() or calls):
            raise InputError(f"{where}empty answer: no text to train on or to judge")
        if self.choices and self.answer not in self.choices:
            raise InputError(
                f"{where}the answer {self.answer!r} is not among the choices {list(self.choices)}"
            )
        reasoning = self.text("reasoning")
        if reasoning and not (self.answer_marker and reasoning.endswith(self.answer_marker)):
            raise InputError(
                f"{where}the reasoning must end with a non-empty answer marker "
                f"(here {self.answer_marker!r}), which separates it from the answer"
            )

    @property
    def is_plain_text(self) -> bool:
        """Whether the example is plain text, without an answer."""
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
        """All texts of the example; examples with equal keys are duplicates."""
        if self.messages:
            turns = (part for m in self.messages for part in (m.role, m.content, m.more))
            return (*turns, self.tools)
        return tuple([segment.text for segment in self.segments])
