"""Rows of a user's file as examples, whatever the format of the file.

{"prompt": "2+2=", "answer": "4"}
{"prompt": "2+2=", "answer": "4", "reasoning": "Two and two.", "choices": ["3", "4"]}
{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": null,
 "tool_calls": [...]}], "tools": [...]}
{"prompt": "2+2=", "answer": "It is 4.", "spans": [[10, 11]]}
{"text": "Two and two is four."}
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.files import fingerprint, sha256_of
from ntpctp.data.example import Example, Segment
from ntpctp.data.normalisation import Rule
from ntpctp.data.tasks.files.chat_rows import check_characters, read_message, read_tools

FieldName = Literal[
    "prompt", "answer", "reasoning", "choices", "messages", "tools", "spans", "text"
]
_OPTIONAL: tuple[FieldName, ...] = ("reasoning", "choices", "messages", "tools", "spans")


@dataclass(frozen=True)
class RowReader:
    """Turns rows into examples.

    Attributes:
        answer_marker: put between reasoning and answer, on a separate line.
        separator: appended to every prompt.
        names: our name of a field -> its name in the file, if they differ.
        pattern: regular expression; its matches in the joined text of prompt, reasoning and answer
            (or in plain text) are marked as critical, in addition to the row's own spans.
        normalise: rules by which answers are compared.
        strata: fields of the file that become strata.
    """

    answer_marker: str
    separator: str = ""
    names: Mapping[FieldName, str] = field(default_factory=dict)
    pattern: str | None = None
    normalise: tuple[Rule, ...] = ()
    strata: tuple[str, ...] = ()

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """Return ``row`` as an example. Unknown fields are ignored, but for misspelt ones.

        Raises:
            InputError: if the row is invalid; names ``where`` and the field.
        """
        self._refuse_misspelt(row, where)
        messages = row.get(self._name("messages"))
        if messages is not None:
            return self._chat(row, messages, where)
        if self._is_plain_text(row):
            text = self._text(row, "text", where)
            spans = self._spans(row, text, where)
            strata = self._levels(row, where)
            return Example((Segment("text", text),), source=where, spans=spans, strata=strata)
        if self._given(row, "tools"):
            raise InputError(
                f"{where}: has {self._name('tools')!r} without {self._name('messages')!r}; only a "
                "chat template renders tools. Give messages, or remove the tools"
            )
        prompt = self._text(row, "prompt", where)
        answer = self._text(row, "answer", where)
        segments = [Segment("prompt", prompt + self.separator)]
        reasoning = self._text(row, "reasoning", where) if self._given(row, "reasoning") else ""
        if reasoning:
            segments.append(Segment("reasoning", self._marked(reasoning, answer, where)))
        segments.append(Segment("answer", answer))
        return Example(
            tuple(segments),
            choices=self._choices(row, where),
            answer_marker=self.answer_marker if reasoning else "",
            source=where,
            spans=self._spans(row, "".join(segment.text for segment in segments), where),
            normalise=self.normalise,
            strata=self._levels(row, where),
        )

    def _name(self, ours: FieldName) -> str:
        return self.names.get(ours, ours)

    def _given(self, row: Mapping[str, Any], ours: FieldName) -> bool:
        """Whether an optional field is present; null, "" and [] count as absent."""
        return row.get(self._name(ours)) not in (None, "", [])

    def _is_plain_text(self, row: Mapping[str, Any]) -> bool:
        """Whether the row has ``text``, and neither prompt nor answer."""
        return self._name("text") in row and not (
            self._name("prompt") in row or self._name("answer") in row
        )

    def _refuse_misspelt(self, row: Mapping[str, Any], where: str) -> None:
        """Refuse a misspelt optional field, which would be ignored silently."""
        required: tuple[FieldName, ...] = ("prompt", "answer") if self._is_plain_text(row) else ()
        for ours in (*required, *_OPTIONAL):
            name = self._name(ours)
            others = [key for key in row if key not in self._ours()]
            close = get_close_matches(name, others, n=1, cutoff=0.85)
            if name not in row and close:
                raise InputError(
                    f"{where}: unknown field {close[0]!r}; did you mean {name!r}? Rename it "
                    "(or choose a less similar name, if it is another field)"
                )

    def _ours(self) -> set[str]:
        return {self._name(ours) for ours in ("prompt", "answer", "text", *_OPTIONAL)}

    def _text(self, row: Mapping[str, Any], ours: FieldName, where: str) -> str:
        name = self._name(ours)
        if name not in row:
            raise InputError(
                f"{where}: field {name!r} is missing{nearest(name, row)} "
                f"(found: {', '.join(map(str, row)) or 'nothing'})"
            )
        value = row[name]
        if not isinstance(value, str):
            raise InputError(
                f"{where}: field {name!r}: expected a string, found {type(value).__name__} "
                f"{json.dumps(value, default=str)[:80]}"
            )
        check_characters(value, f"{where}: field {name!r}")
        return value

    def _marked(self, reasoning: str, answer: str, where: str) -> str:
        """Return the reasoning with the answer marker at its end."""
        marker = self.answer_marker
        if marker.strip() in answer:
            raise InputError(
                f"{where}: the answer {answer!r} contains the answer marker {marker!r}, which "
                "must separate it from the reasoning. Set another answer_marker"
            )
        if reasoning.endswith(marker):
            return reasoning
        return f"{reasoning}{'' if reasoning[-1].isspace() else chr(10)}{marker}"

    def _levels(self, row: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
        """Return the strata of a row, each a name and a level."""
        levels = []
        for name in self.strata:
            if row.get(name) in (None, ""):
                raise InputError(
                    f"{where}: field {name!r} is missing{nearest(name, row)} (it is listed in "
                    f"strata; found: {', '.join(map(str, row)) or 'nothing'})"
                )
            if not isinstance(row[name], str | int | float):
                raise InputError(
                    f"{where}: field {name!r}: expected a string, a number or true or false, since "
                    f"it is listed in strata, found {json.dumps(row[name], default=str)[:80]}"
                )
            check_characters(str(row[name]), f"{where}: field {name!r}")
            levels.append((name, str(row[name])))
        return tuple(levels)

    def _choices(self, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
        if not self._given(row, "choices"):
            return ()
        name, value = self._name("choices"), row[self._name("choices")]
        if not isinstance(value, list) or not all(isinstance(choice, str) for choice in value):
            raise InputError(
                f"{where}: field {name!r}: expected a list of strings, found "
                f"{json.dumps(value, default=str)[:80]}"
            )
        if len(value) < 2 or len(set(value)) < len(value):
            raise InputError(
                f"{where}: field {name!r}: expected at least two different choices, found {value}"
            )
        for choice in value:
            check_characters(choice, f"{where}: field {name!r}")
        return tuple(value)

    def _spans(self, row: Mapping[str, Any], text: str, where: str) -> tuple[tuple[int, int], ...]:
        """Return the marked spans: those of the row, then the matches of the pattern."""
        matches = re.finditer(self.pattern, text) if self.pattern is not None else ()
        matched = tuple(match.span() for match in matches if match.group())
        if not self._given(row, "spans"):
            return matched
        name, value = self._name("spans"), row[self._name("spans")]
        well_formed = isinstance(value, list) and all(
            isinstance(span, list)
            and len(span) == 2
            and all(type(place) is int for place in span)
            and 0 <= span[0] < span[1] <= len(text)
            for span in value
        )
        if not well_formed:
            raise InputError(
                f"{where}: field {name!r}: expected a list of [start, end] with 0 <= start < end "
                f"<= {len(text)} (characters of prompt, reasoning and answer, joined), found "
                f"{json.dumps(value, default=str)[:80]}"
            )
        return tuple((start, end) for start, end in value) + matched

    def _chat(self, row: Mapping[str, Any], messages: Any, where: str) -> Example:
        # Many published chats have a column ``text`` with the rendered chat; it is ignored.
        ours = self._ours() - {self._name(name) for name in ("messages", "tools", "text")}
        both = [name for name in ours if row.get(name)]
        if both:
            raise InputError(
                f"{where}: has {self._name('messages')!r} and {sorted(both)}. A chat has only "
                "messages and tools; the last message is its answer"
            )
        if self.pattern is not None:
            raise InputError(
                f"{where}: pattern marks characters of prompt and answer, but a chat is rendered "
                "by the tokenizer's template. Give the pattern to the objective critical instead"
            )
        if not isinstance(messages, list) or not messages:
            raise InputError(
                f"{where}: field {self._name('messages')!r}: expected a list of at least one "
                f"message, found {json.dumps(messages, default=str)[:80]}"
            )
        tools, has_tools = self._name("tools"), self._given(row, "tools")
        return Example(
            messages=tuple(
                read_message(message, f"{where}, message {k}")
                for k, message in enumerate(messages, start=1)
            ),
            source=where,
            normalise=self.normalise,
            tools=read_tools(row[tools], f"{where}: field {tools!r}") if has_tools else "",
            strata=self._levels(row, where),
        )


def fingerprint_of(paths: Sequence[str | None]) -> str | None:
    """Return a hash of the content of files; None if one is missing (reading it raises)."""
    files = [Path(path) for path in paths if path is not None]
    if not all(file.is_file() for file in files):
        return None
    return fingerprint([sha256_of(file) for file in files])


def hold_out(
    examples: Sequence[Example],
    test_size: int | None,
    seed: int,
    where: str,
    groups: Sequence[str] | None = None,
) -> tuple[list[Example], list[Example]]:
    """Split ``examples`` into train and test by a hash of the prompt.

    Examples with the same prompt stay together, so that no question is in both parts, not even
    with another answer. Both parts keep the order of the file. Adding an example to the file moves
    few of the others.

    Args:
        examples: all examples.
        test_size: number of distinct prompts to hold out; None: a fifth, rounded down, but at least
            one.
        seed: selects the held-out prompts.
        where: the file, for messages.
        groups: per example, the key by which examples stay together; None: the prompt.

    Raises:
        InputError: if no example would be left to train on.
    """
    keys = [_input_of(example) for example in examples] if groups is None else groups
    hashes = [hashlib.sha256(json.dumps([seed, key]).encode()).hexdigest() for key in keys]
    distinct = sorted(set(hashes))
    wanted = max(1, len(distinct) // 5) if test_size is None else test_size
    if wanted >= len(distinct):
        raise InputError(
            f"{where}: expected more than test_size = {wanted} distinct prompts, found "
            f"{len(distinct)}. Add examples, lower test_size or give a separate test split"
        )
    held_out = set(distinct[:wanted])
    train: list[Example] = []
    test: list[Example] = []
    for example, key in zip(examples, hashes, strict=True):
        (test if key in held_out else train).append(example)
    return train, test


def _input_of(example: Example) -> str:
    """Return the input of the model as one string."""
    turns = [[m.role, m.content, m.more] for m in example.messages[:-1]]
    if turns:
        return json.dumps([turns, example.tools])
    return example.text("prompt") or example.text("text")
