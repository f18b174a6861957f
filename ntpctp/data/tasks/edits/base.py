"""Edits of examples: changed copies whose right answer is known, to measure robustness with.

    renaming   "Every lorpus is shy. Max is a lorpus. ..."  ->  "Every zumpus is shy. Max is a ..."
    contrast   "7+15=" "22"  ->  "7+16=" "23"

An edit works on the text alone, so that it can be applied to examples read back from a file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example

SHARES = (0.0, 0.25, 0.5, 1.0)
"""Strengths of most edits: the share of what can be edited."""


@dataclass(frozen=True, slots=True)
class Edited:
    """An example after an edit.

    Attributes:
        example: the edited item with its right answer; named answers, choices and their order are
            those of the original but for new names.
        renamed: (new word, old word) for every word that has another name.
    """

    example: Example
    renamed: tuple[tuple[str, str], ...] = ()

    def restored(self, answer: str) -> str:
        """Return an answer to the edited example in the words of the original.

        All names change at once, for a new name may be the old name of something else.
        """
        return words_replaced(answer, dict(self.renamed))


_Change = Callable[[Example, float, np.random.Generator], Edited | None]


@dataclass(frozen=True)
class Edit:
    """One way of editing examples.

    Attributes:
        description: what is done, one line.
        unit: what a strength means, for instance "share of the premises".
        strengths: the usual ones, rising from 0 (nothing edited).
        keeps_answer: whether the right answer stays the same (but for new names).
        change: edits an example at a positive strength; None if it cannot be edited so.
        whole: whether strengths are whole numbers.
        largest: no strength is larger.
    """

    description: str
    unit: str
    strengths: tuple[float, ...]
    keeps_answer: bool
    change: _Change
    whole: bool = False
    largest: float = 1.0

    def check(self, strength: float) -> None:
        """Refuse a strength that this edit does not have.

        Raises:
            InputError: says what is allowed.
        """
        if not 0 <= strength <= self.largest or (self.whole and not float(strength).is_integer()):
            kind = "a whole number" if self.whole else "a number"
            end = "" if self.largest == float("inf") else f" to {self.largest:g}"
            raise InputError(
                f"strength of an edit ({self.unit}): expected {kind} from 0{end}, found "
                f"{strength:g}"
            )

    def apply(self, example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        """Return ``example`` edited, or None if this example cannot be edited so.

        With ``rng`` in the same state a stronger edit contains the weaker one: it changes the same
        places in the same way, and more of them.

        Args:
            example: any example of the split that the edit was given for; stays as it is.
            strength: in ``unit``; at 0 the example is returned as it is.
            rng: decides what is edited.

        Raises:
            InputError: for a strength that this edit does not have.
        """
        self.check(strength)
        return self.change(example, strength, rng) if strength else Edited(example)


def contrast(
    description: str, change: Callable[[Example, np.random.Generator], Edited | None]
) -> Edit:
    """Return the edit that changes the right answer by the smallest change of what is given."""
    return Edit(
        description,
        "changes",
        (0, 1),
        False,
        lambda example, strength, rng: change(example, rng),
        whole=True,
    )


def number_of(share: float, available: int) -> int:
    """Return how many of ``available`` things are a positive share: at least one of them."""
    return min(available, max(1, round(share * available)))


def prompt_of(example: Example) -> str:
    """Return the text that an edit may change: the prompt, or what the user of a chat said last.

    Empty where there is none, as in plain text.
    """
    if example.messages:
        return example.messages[_last_user(example)].content if _has_user(example) else ""
    prompts = [segment for segment in example.segments if segment.role == "prompt"]
    return prompts[-1].text if prompts else ""


def with_prompt(example: Example, prompt: str) -> Example:
    """Return ``example`` with another ``prompt_of``.

    Marked characters behind the prompt move with the text; marks within it are dropped, for
    nothing tells where they belong in the new one.
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
    """Return ``example`` with other reasoning, marker and all, if it has reasoning."""
    return replace(
        example,
        segments=tuple(
            replace(segment, text=steps) if segment.role == "reasoning" else segment
            for segment in example.segments
        ),
    )


def with_strata(example: Example, **levels: object) -> Example:
    """Return ``example`` with other levels of strata that it has."""
    strata = tuple((name, str(levels.get(name, level))) for name, level in example.strata)
    return replace(example, strata=strata)


def words_replaced(text: str, new: Mapping[str, str]) -> str:
    """Return ``text`` with every word that is a key of ``new`` replaced, all at once.

    >>> words_replaced("Max is Rex.", {"Max": "Rex", "Rex": "Tom"})
    'Rex is Tom.'
    """
    return re.sub(r"\w+", lambda match: new.get(match[0], match[0]), text)


def _has_user(example: Example) -> bool:
    return any(message.role == "user" for message in example.messages[:-1])


def _last_user(example: Example) -> int:
    return max(k for k, message in enumerate(example.messages[:-1]) if message.role == "user")
