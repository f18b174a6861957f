"""The definition of each measure, taken from its docstring."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from ntpctp.analysis.run_scores import LEARNING, whole_run_scores
from ntpctp.measures import Measure

_MATHS = {
    r"\nabla": "∇",
    r"\theta": "θ",
    r"\sum": "Σ",
    r"\ell": "\N{SCRIPT SMALL L}",
    r"\lambda": "λ",
    r"\sigma": "\N{GREEK SMALL LETTER SIGMA}",
    "^2": "²",
    r"\,": " ",
}
_CODE = re.compile(r"``(.+?)``")
_FORMULA = re.compile(r":math:`(.+?)`")
_SUBSCRIPT = re.compile(r"_(\\?\w)")


@dataclass(frozen=True)
class Definition:
    """A measure's name and its definition as paragraphs and lists."""

    name: str
    blocks: list[Markup]


def definitions(measures: Iterable[Measure]) -> list[Definition]:
    """Return the definition of each measure, and of the scores of whole runs."""
    texts = {measure.name: inspect.getdoc(type(measure)) or "" for measure in measures}
    texts[LEARNING] = (inspect.getdoc(whole_run_scores) or "").partition("\nArgs:")[0]
    blocks = {name: re.split(r"\n\s*\n", text) for name, text in texts.items()}
    return [
        Definition(name, [_block(b) for b in found if b.strip()]) for name, found in blocks.items()
    ]


def _block(block: str) -> Markup:
    if not block.startswith("* "):
        return Markup("<p>{}</p>").format(_inline(block))
    items = (_inline(item) for item in re.split(r"(?:^|\n)\* ", block) if item)
    return Markup("<ul>{}</ul>").format(Markup("").join(map(Markup("<li>{}</li>").format, items)))


def _inline(text: str) -> Markup:
    one_line = str(escape(" ".join(text.split())))
    with_formulas = _FORMULA.sub(lambda match: f"<em>{_formula(match[1])}</em>", one_line)
    return Markup(_CODE.sub(r"<code>\1</code>", with_formulas))


def _formula(text: str) -> str:
    """Replace the LaTeX of the docstrings by Unicode; ``text`` is escaped."""
    for command, sign in _MATHS.items():
        text = text.replace(command, sign)
    return _SUBSCRIPT.sub(r"<sub>\1</sub>", text)
