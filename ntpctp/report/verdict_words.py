"""Verdicts in the words that readers see: in the report, the terminal, Markdown and LaTeX.

``comparison.json``, JSON and CSV keep the words of ``statistics.verdict``, which programs may read.
"""

from ntpctp.statistics import Verdict

DESCRIPTIVE = "descriptive only"
"""Instead of a verdict, for scores of which neither direction is better."""
_SHOWN = (
    ("the data do not say: ", "not decided: "),
    (" alone, not among all pairs", ", but not significant after Holm correction"),
    (" alone, not in the whole map", ", but not significant after Holm correction over the map"),
    ("no direction is better", DESCRIPTIVE),
    ("items needed, seeds alone do not suffice", "items needed; more seeds alone are not enough"),
)


def shown_verdict(stored: str) -> str:
    """Return the stored words of a verdict as readers see them.

    >>> shown_verdict("the data do not say: about 15 seeds needed")
    'not decided: about 15 seeds needed'
    >>> shown_verdict("the data do not say: ctp better alone, not among all pairs")
    'not decided: ctp better, but not significant after Holm correction'
    >>> shown_verdict("ctp better")
    'ctp better'
    """
    for old, new in _SHOWN:
        stored = stored.replace(old, new)
    return stored


def verdict_words(verdict: Verdict | None, reason: str | None = None) -> str:
    """Return a verdict as readers see it, or the reason why there is none."""
    return shown_verdict(verdict.words) if verdict else reason or DESCRIPTIVE
