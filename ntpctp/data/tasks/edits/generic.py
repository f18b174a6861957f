"""Edits of any text: typing errors, white space, case.

They change the last prompt of an example, and neither reasoning nor answer.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import SHARES, Edit, Edited, number_of, prompt_of, with_prompt

# fmt: off
LOGICAL = frozenset({"and", "false", "if", "no", "not", "or", "true", "yes"})
"""Words that no typing error may change or produce, in any text."""
# In open text an answer may depend on these too; the sentences of our own tasks have none.
_OPERATORS = LOGICAL | {
    "all", "any", "both", "each", "either", "every", "except", "few", "least", "less", "many",
    "more", "most", "neither", "never", "nobody", "none", "nor", "nothing", "only", "same", "some",
    "than", "unless", "without",
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "hundred", "thousand", "million", "half", "third", "quarter", "double", "twice",
}
# fmt: on
_SHORTEST = 3  # letters: a typing error in "is" or "a" often gives another word
# Whole words made of letters, not within another token such as an address or "don't".
_WORD = re.compile(r"(?<![\w'\u2019.@/-])[^\W\d_]+(?![\w'\u2019@/-]|\.\w)")
_QUOTED = re.compile(r"[\"\u201c`][^\"\u201d`\n]*[\"\u201d`]")

Change = tuple[int, int, list[str]]
"""An editable place: start and end in characters, and the possible replacements."""


def generic_edits(
    protected: Collection[str] = (),
    names: bool = True,
    operators: Collection[str] = _OPERATORS,
    only: Collection[str] = (),
) -> dict[str, Edit]:
    """Return the edits that apply to any text of words.

    Args:
        protected: words, in lower case, that the question is about; they are not edited.
        names: whether to spare words that begin with a capital letter too: at the beginning of a
            sentence a name looks like any other word.
        operators: words that no typing error may change or produce; nor may it produce another
            word of the prompt.
        only: the only words, in lower case, that may be edited; empty: no restriction.
    """

    def words(example: Example) -> list[tuple[int, int, str]]:
        found = _words(example, frozenset(protected), names)
        return [place for place in found if not only or place[2].lower() in only]

    def typing_errors(example: Example) -> list[Change]:
        present = {word.lower() for word in re.findall(r"\w+", prompt_of(example))}
        taken = {*protected, *operators, *present}
        return _typos(words(example), frozenset(operators), taken)

    return {
        "typos": _edit(
            "a word has two letters swapped, one dropped or one doubled",
            "share of the words that are not names, numbers, logical or of an answer",
            (0, 0.1, 0.2, 0.4),
            typing_errors,
        ),
        "white_space": _edit(
            "a space is doubled, or is a line break where a sentence ends",
            "share of the spaces",
            SHARES,
            lambda example: _spaces(prompt_of(example)),
        ),
        "case": _edit(
            "a word is written in capitals (or, if it was, in small letters)",
            "share of the words that are not names, numbers or of an answer",
            SHARES,
            lambda example: [
                (start, end, [word.lower() if word.isupper() else word.upper()])
                for start, end, word in words(example)
            ],
        ),
    }


def sentence_edits(kept: Iterable[str]) -> dict[str, Edit]:
    """Return ``generic_edits`` for the sentences of a task, with the words ``kept`` unchanged."""
    return generic_edits({word.lower() for word in kept}, names=False, operators=LOGICAL)


def _edit(
    description: str,
    unit: str,
    strengths: tuple[float, ...],
    places: Callable[[Example], list[Change]],
) -> Edit:
    """Return the edit of a share of ``places``; how a place changes is independent of the share."""

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        found = places(example)
        if not found:
            return None
        order, which = rng.permutation(len(found)), rng.random(len(found))
        text = prompt_of(example)
        for k in sorted(order[: number_of(strength, len(found))].tolist(), reverse=True):
            start, end, options = found[k]
            text = text[:start] + options[int(which[k] * len(options))] + text[end:]
        return Edited(with_prompt(example, text))

    return Edit(description, unit, strengths, True, change)


def _words(example: Example, protected: Collection[str], names: bool) -> list[tuple[int, int, str]]:
    """Return the places of the words whose spelling does not affect the answer."""
    text = prompt_of(example)
    answers = {word.lower() for word in _answer_words(example)}
    quoted = [match.span() for match in _QUOTED.finditer(text)]
    found = []
    for match in _WORD.finditer(text):
        word = match[0]
        if (
            word.lower() not in protected
            and word.lower() not in answers
            and not (names and word[0].isupper())
            and not any(start < match.start() < end for start, end in quoted)
            and word.lower() != word.upper()  # scripts without case
        ):
            found.append((*match.span(), word))
    return found


def _answer_words(example: Example) -> Iterable[str]:
    answers = [example.answer, *example.choices, *(text for _, text in example.references)]
    return (word for answer in answers for word in re.findall(r"\w+", answer))


def _typos(
    words: Sequence[tuple[int, int, str]], operators: Collection[str], taken: Collection[str]
) -> list[Change]:
    """Return the typing errors of each word except ``operators``; none may be in ``taken``."""
    found = []
    for start, end, word in words:
        if len(word) < _SHORTEST or word.lower() in operators:
            continue
        options = [typo for typo in _typing_errors(word) if typo.lower() not in taken]
        if options:
            found.append((start, end, options))
    return found


def _typing_errors(word: str) -> list[str]:
    """Return all results of swapping two neighbours, dropping or doubling a letter, but the first.

    >>> _typing_errors("all")
    ['al', 'alll']
    """
    wrong: Mapping[str, None] = dict.fromkeys(
        [word[:k] + word[k + 1] + word[k] + word[k + 2 :] for k in range(1, len(word) - 1)]
        + [word[:k] + word[k + 1 :] for k in range(1, len(word))]
        + [word[:k] + word[k] + word[k:] for k in range(1, len(word))]
    )
    return [typo for typo in wrong if typo != word]


def _spaces(text: str) -> list[Change]:
    return [
        (
            match.start(),
            match.end(),
            ["  ", "\n", " \n"] if text[match.start() - 1] in ".?!" else ["  "],
        )
        for match in re.finditer(r"(?<=\S) (?=\S)", text)
    ]
