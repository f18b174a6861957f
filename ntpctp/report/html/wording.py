"""Numbers and names as the page shows them, every number with its unit.

Shares are written in percent and their differences in percentage points (pp); all other numbers
keep the unit of their score.
"""

import math
from collections.abc import Iterable

from ntpctp._core.text import grouped
from ntpctp.statistics import Effect

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
NO_VALUE = "no value"

_SCORES = {
    "exact_match": "exact match",
    "choice": "choice accuracy",
    "brier": "Brier score",
    "choice_brier": "Brier score of the choice",
    "stopped": "stopped with the end-of-sequence token",
    "answer_loss": "loss on the answer",
    "all_loss": "loss on all tokens",
    "top_eigenvalue_answer_loss": "top eigenvalue, answer loss",
    "top_eigenvalue_own_loss": "top eigenvalue, own loss",
    "top_eigenvalue_half_answer_loss": "top eigenvalue, answer loss, first half of the items",
    "smallest_eigenvalue_answer_loss": "smallest eigenvalue, answer loss",
    "smallest_eigenvalue_own_loss": "smallest eigenvalue, own loss",
    "parameter_norm": "norm of the parameters",
    "average_adaptive_sharpness": "average rise, element-wise",
    "average_filter_sharpness": "average rise, by filters",
    "worst_adaptive_sharpness_l2": "worst rise, Euclidean",
    "worst_adaptive_sharpness_linf": "worst rise, largest entry",
    "trace_answer_loss": "trace of the Hessian, answer loss",
    "pyhessian_eigenvalue_answer_loss": "PyHessian's eigenvalue, answer loss",
    "slice_rise": "mean rise along random directions",
    "eigenvector_rise": "mean rise along the top eigenvector",
    "root_mean_square_eigenvalue": "root mean square of the eigenvalues",
    "mean_eigenvalue": "mean of the eigenvalues",
    "top_eigenvalue_preconditioned": "top eigenvalue, preconditioned by Adam",
    "stability_ratio": "top eigenvalue, preconditioned by Adam, relative to 2 / learning rate",
    "gradient_curvature": "curvature along the gradient",
    "gradient_curvature_preconditioned": "curvature along the gradient, preconditioned by Adam",
    "gradient_stability_ratio": "curvature along the gradient, preconditioned by Adam, relative to "
    "2 / learning rate",
}

_OF_CURVES = {
    "accuracy_under_": "accuracy under {}",
    "worst_of_draws_under_": "right in every draw of {}",
    "flip_rate_under_": "answers changed by {}",
    "area_": "area under the {} curve",
    "half_strength_": "strength of {} that takes half of the advantage over chance",
}
"""Scores of robustness curves, by the start of their names; the kind of perturbation follows."""


def score_label(score: str) -> str:
    """Return the readable name of a score; an unknown score keeps its own.

    >>> score_label("accuracy_under_weight_noise"), score_label("area_noise_at_transformer.h.0")
    ('accuracy under weight noise', 'area under the noise curve at transformer.h.0')
    """
    if score in _SCORES:
        return _SCORES[score]
    for start, words in _OF_CURVES.items():
        if score.startswith(start):
            kind, at, module = score.removeprefix(start).partition("_at_")
            place = f" at {module}" if at else ""
            return words.format(kind.replace("_", " ")) + place
    return score.replace("_", " ")


def full_label(
    split: str, score: str, strength: float | None = None, stratum: str | None = None
) -> str:
    """Return the label of a score beside other splits, strata and strengths."""
    label = score_label(score)
    at = "" if strength is None else f" at strength {strength:g}"
    return f"{label}{at}, {part_label(split, stratum)}"


def part_label(split: str, stratum: str | None = None) -> str:
    """Return the label of a split or of a part of it."""
    return split if stratum is None else f"{split}, {stratum}"


def capital(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return f"{text[0].upper()}{text[1:]}"


def is_share(unit: str) -> bool:
    """Return whether values of ``unit`` lie between 0 and 1 and read best in percent."""
    return "share" in unit.split()


def shown_unit(unit: str) -> str:
    """Return the unit of a value as the page shows it."""
    return unit.replace("share", "% ", 1).replace("  ", " ").strip() if is_share(unit) else unit


def direction(unit: str, higher_is_better: bool | None) -> str:
    """Return a score's unit and which way is better."""
    words = {True: "higher is better", False: "lower is better", None: "descriptive only"}
    return f"{shown_unit(unit)}; {words[higher_is_better]}"


def number(value: float, digits: int = 4) -> str:
    r"""Return a number with about ``digits`` significant digits.

    >>> number(12345.6), number(738.41), number(0.0123456), number(-1e-7)
    ('12\u202f346', '738.4', '0.01235', '−1e-07')
    """
    size = abs(value)
    if size and (size >= 1e6 or size < 1e-4):
        text = f"{size:.3g}"
    elif size >= 1000:
        text = f"{size:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    else:
        text = f"{size:.{digits}g}"
    return f"{MINUS}{text}" if value < 0 else text


def value(x: float | None, unit: str) -> str:
    r"""Return a value; shares in percent, others without their unit.

    >>> value(0.7321, "share of items"), value(None, "nats per token")
    ('73.2\xa0%', 'no value')
    """
    if x is None:
        return NO_VALUE
    return f"{_minus(f'{100 * x:.1f}')}{SPACE}%" if is_share(unit) else number(x)


def value_range(low: float | None, high: float | None, unit: str) -> str:
    r"""Return two values with "to" between them; an empty string if there is no interval.

    >>> value_range(0.5, 0.75, "share of items"), value_range(None, None, "steps")
    ('50.0\xa0% to 75.0\xa0%', '')
    """
    return "" if low is None or high is None else f"{value(low, unit)} to {value(high, unit)}"


def quantity(x: float | None, unit: str) -> str:
    """Return a value with its unit; losses per token in bits, too.

    >>> quantity(0.6931472, "nats per token")
    '0.6931 nats per token (1 bits)'
    """
    if x is None or is_share(unit):
        return value(x, unit)
    in_bits = bits(x, unit)
    return f"{number(x)} {unit}" + (f" ({in_bits})" if in_bits else "")


def bits(x: float, unit: str) -> str:
    """Return a loss per token in bits; an empty string for any other unit."""
    return f"{number(x / math.log(2))} bits" if unit == "nats per token" else ""


def width(x: float | None, unit: str) -> str:
    r"""Return a length on the scale of a score, such as a standard deviation.

    >>> width(0.0123, "share of items")
    '1.2\xa0pp'
    """
    if x is None:
        return NO_VALUE
    return f"{_minus(f'{100 * x:.1f}')}{SPACE}pp" if is_share(unit) else number(x, 3)


def difference(x: float, unit: str) -> str:
    """Return a difference with its sign."""
    return f"{'+' if x > 0 else ''}{width(x, unit)}"


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Return an interval of a difference, or "no interval"."""
    if low is None or high is None:
        return "no interval"
    ends = [difference(end, unit).replace(f"{SPACE}pp", "") for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]{f'{SPACE}pp' if is_share(unit) else ''}"


def p_value(p: float) -> str:
    """Return a p value with its relation.

    >>> p_value(0.03172), p_value(0.00001)
    ('p = 0.032', 'p < 0.001')
    """
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def p_digits(p: float | None) -> str:
    """Return a p value with two digits, for a column of p values.

    >>> p_digits(0.03172), p_digits(None)
    ('0.032', 'no value')
    """
    return NO_VALUE if p is None else f"{p:.2g}"


def percent(level: float) -> str:
    r"""Return a nominal level.

    >>> percent(0.95)
    '95\xa0%'
    """
    return f"{100 * level:g}{SPACE}%"


def span(counts: Iterable[int]) -> str:
    """Return one number if all are equal, otherwise the smallest and the largest."""
    values = sorted(set(counts))
    if not values:
        return NO_VALUE
    if len(values) == 1:
        return grouped(values[0])
    return f"{grouped(values[0])} to {grouped(values[-1])}"


def _minus(text: str) -> str:
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def contrast(effect: Effect) -> str:
    """Return an effect of a grid's factors in words.

    >>> from types import SimpleNamespace as Of
    >>> contrast(Of(factors=("objective",), levels=(("ntp", "ctp"),)))
    'objective: ntp − ctp'
    >>> contrast(Of(factors=("a", "b"), levels=(("1", "2"), ("x", "y"))))
    'a: 1 − 2, where b is x rather than y'
    """
    first, *others = zip(effect.factors, effect.levels, strict=True)
    words = f"{first[0]}: {first[1][0]} {MINUS} {first[1][1]}"
    return words + "".join(f", where {name} is {a} rather than {b}" for name, (a, b) in others)
