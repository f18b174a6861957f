"""Edits of examples: changed copies with a known correct answer, for measures of robustness.

    renaming   "Every lorpus is shy. Max is a lorpus. ..."  ->  "Every zumpus is shy. Max is a ..."
    contrast   "7+15=" "22"  ->  "7+16=" "23"

An edit needs only the text, so that it also applies to examples read back from a file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example

SHARES = (0.0, 0.25, 0.5, 1.0)
"""The strengths of most edits: shares of the editable places."""


@dataclass(frozen=True, slots=True)
class Edited:
    """An example after an edit.

    Attributes:
        example: the edited example with its correct answer; references and choices are those of
            the original in the same order, up to new names.
        renamed: (new word, old word) for every renamed word.
    """

    example: Example
    renamed: tuple[tuple[str, str], ...] = ()

    def restored(self, answer: str) -> str:
        """Translate an answer to the edited example back to the names of the original.

        All names are replaced at once, since a new name may be another thing's old name.
        """
        return words_replaced(answer, dict(self.renamed))


_Change = Callable[[Example, float, np.random.Generator], Edited | None]


@dataclass(frozen=True)
class Edit:
    """One way of editing examples.

    Attributes:
        description: one line.
        unit: meaning of a strength, for instance "share of the premises".
        strengths: the default ones, increasing from 0 (unedited).
        keeps_answer: whether the correct answer stays the same (up to new names).
        change: edits an example at a positive strength; returns None if the edit is impossible.
        whole: whether strengths are whole numbers.
        largest: the maximal strength.
    """

    description: str
    unit: str
    strengths: tuple[float, ...]
    keeps_answer: bool
    change: _Change
    whole: bool = False
    largest: float = 1.0

    def check(self, strength: float) -> None:
        """Refuse an invalid strength.

        Raises:
            InputError: states the valid range.
        """
        if not 0 <= strength <= self.largest or (self.whole and not float(strength).is_integer()):
            kind = "a whole number" if self.whole else "a number"
            end = "" if self.largest == float("inf") else f" to {self.largest:g}"
            raise InputError(
                f"strength of an edit ({self.unit}): expected {kind} from 0{end}, found "
                f"{strength:g}"
            )

    def apply(self, example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        """Return an edited copy of ``example``, or None if the edit is impossible.

        With ``rng`` in the same state a stronger edit contains the weaker one: it changes the same
        places in the same way, and further places.

        Args:
            example: of the split for which the edit was created; not modified.
            strength: in ``unit``; at 0 the example is unchanged.
            rng: chooses the places and the changes.

        Raises:
            InputError: for an invalid strength.
        """
        self.check(strength)
        return self.change(example, strength, rng) if strength else Edited(example)


def contrast(
    description: str, change: Callable[[Example, np.random.Generator], Edited | None]
) -> Edit:
    """Return the edit that changes the correct answer by a minimal change of the prompt."""
    return Edit(
        description,
        "changes",
        (0, 1),
        False,
        lambda example, strength, rng: change(example, rng),
        whole=True,
    )


def number_of(share: float, available: int) -> int:
    """Return ``share`` of ``available``, rounded, and at least one of them."""
    return min(available, max(1, round(share * available)))


def prompt_of(example: Example) -> str:
    """Return the text that an edit may change: the prompt, or the last message of the user.

    Empty if there is none, as in plain text.
    """
    if example.messages:
        return example.messages[_last_user(example)].content if _has_user(example) else ""
    prompts = [segment for segment in example.segments if segment.role == "prompt"]
    return prompts[-1].text if prompts else ""


def with_prompt(example: Example, prompt: str) -> Example:
    """Return ``example`` with another ``prompt_of``.

    Marked spans after the prompt are shifted with the text; those within it are dropped, since
    their places in the new prompt are unknown.
    """
    if example.messages:
        messages, place = list(example.messages), _last_user(example)
        messages[place] = replace(messages[place], content=prompt)
        return replace(example, messages=tuple(messages))
    place = max(k for k, segment in enumerate(example.segments) if segment.role == "prompt")
    segments = list(example.segments)
    end = sum(len(segment.text) for segment in segments[: place + 1])
    longer = len(prompt) - len(segments[place].text)
    segments[place] = replace(segments[place], text=prompt)
    spans = tuple((a + longer, b + longer) for a, b in example.spans if a >= end)
    return replace(example, segments=tuple(segments), spans=spans)


def with_answer(example: Example, answer: str) -> Example:
    """Return ``example``, made of segments, with another answer."""
    *others, last = example.segments
    return replace(example, segments=(*others, replace(last, text=answer)))


def with_reasoning(example: Example, steps: str) -> Example:
    """Replace the reasoning, including the marker, if the example has reasoning."""
    return replace(
        example,
        segments=tuple(
            replace(segment, text=steps) if segment.role == "reasoning" else segment
            for segment in example.segments
        ),
    )


def with_strata(example: Example, **levels: object) -> Example:
    """Return ``example`` with other levels of its strata; further names are ignored."""
    strata = tuple((name, str(levels.get(name, level))) for name, level in example.strata)
    return replace(example, strata=strata)


def words_replaced(text: str, new: Mapping[str, str]) -> str:
    """Replace every word of ``text`` that is a key of ``new``, all at once.

    >>> words_replaced("Max is Rex.", {"Max": "Rex", "Rex": "Tom"})
    'Rex is Tom.'
    """
    return re.sub(r"\w+", lambda match: new.get(match[0], match[0]), text)


def _has_user(example: Example) -> bool:
    return any(message.role == "user" for message in example.messages[:-1])


def _last_user(example: Example) -> int:
    return max(k for k, message in enumerate(example.messages[:-1]) if message.role == "user")
