"""The comparison of one experiment as tables."""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ntpctp.analysis.scores import IDENTITY, stands_alone
from ntpctp.report.terminal.titled import titled
from ntpctp.report.verdict_words import shown_verdict

_MOST_MISSING = 10


def comparison_tables(
    comparison: dict[str, Any], others: str = "see the report"
) -> Iterator[RenderableType]:
    """Yield the tables of a comparison (``comparison.json``), one for each pair of arms.

    They have the scores with a better direction that do not refine another score; ``others`` says
    where to find the other scores.
    """
    left_out = 0
    pairs: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for score in comparison["scores"]:
        if score["higher_is_better"] is None:
            continue
        if not _stands_alone(score):
            left_out += 1
            continue
        for pair in score["pairs"]:
            pairs.setdefault((pair["a"], pair["b"]), []).append((score, pair))
    if not pairs:
        yield "one arm only: nothing to compare"
    for (a, b), entries in pairs.items():
        level = f"{100 * comparison['level']:g}%"
        title = f"{a} against {b} at the last step: mean (sd over seeds), {level} interval"
        table = titled(title)
        # Wrapped in a narrow terminal: a number must not be truncated.
        table.add_column("score", min_width=12, overflow="fold")
        for name in (a, b, f"{a} - {b}"):
            table.add_column(Text(name), justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
        for score, pair in entries:
            words = pair["verdict"]["words"] if pair["verdict"] else None
            table.add_row(
                score_name(score),
                *(_level_and_spread(score["arms"][arm]) for arm in (a, b)),
                _interval(pair) + _fewer_seeds(score, pair),
                Text(shown_verdict(words) if words else pair["reason"] or "-"),
            )
        yield table
    if left_out and pairs:
        words = f"{left_out} further scores, by strength and stratum: {others}"
        yield Text(words, style="dim")
    yield from _effects_tables(comparison)
    missing: dict[str, list[str]] = {}
    for score in comparison["scores"]:
        for value in score["missing"]:
            missing.setdefault(value, []).append(score_name(score))
    for value, names in list(missing.items())[:_MOST_MISSING]:
        more = f" and {len(names) - 2} more scores" if len(names) > 2 else ""
        yield Text(f"missing: {value} ({', '.join(names[:2])}{more})", style="yellow")
    if len(missing) > _MOST_MISSING:
        yield Text(f"missing: {len(missing) - _MOST_MISSING} more, {others}", style="yellow")


def _effects_tables(comparison: dict[str, Any]) -> Iterator[Table]:
    level = f"{100 * comparison['level']:g}%"
    title = f"factors at the last step: mean difference, {level} interval, p (Holm)"
    table = titled(title, ("score", "contrast"), ("difference", "p"))
    for score in comparison["scores"]:
        if score["higher_is_better"] is None or not _stands_alone(score):
            continue
        for entry in score["effects"]:
            p, effect = entry["holm_p_value"], entry["effect"]
            factors = zip(effect["factors"], effect["levels"], strict=True)
            contrast = "; ".join(f"{factor}: {a} - {b}" for factor, (a, b) in factors)
            p_value = "-" if p is None else f"{p:.2g}"
            table.add_row(score_name(score), contrast, _interval(effect), p_value)
    if table.rows:
        yield table


def _stands_alone(score: dict[str, Any]) -> bool:
    return stands_alone(*(score[key] for key in IDENTITY))


def score_name(score: dict[str, Any]) -> str:
    """Return the label of a score in tables: its split, stratum, name and strength."""
    stratum = "" if score["stratum"] is None else f" ({score['stratum']})"
    strength = "" if score["strength"] is None else f" {score['strength']:g}"
    return f"{score['split']}{stratum} {score['score']}{strength}".replace("_", " ")


def _level_and_spread(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "no value"
    sd = spread["standard_deviation"]
    return f"{number(spread['mean'])} ({'one seed' if sd is None else number(sd)})"


def _fewer_seeds(score: dict[str, Any], pair: dict[str, Any]) -> str:
    """Return the number of seeds of a difference, if the arms' means have more."""
    spreads = [score["arms"][arm] for arm in (pair["a"], pair["b"])]
    most = max((spread["num_seeds"] for spread in spreads if spread), default=0)
    if pair["difference"] is None or len(pair["seeds"]) == most:
        return ""
    return f" ({len(pair['seeds'])} seeds in both)"


def _interval(pair: dict[str, Any]) -> str:
    difference = pair["difference"]
    if difference is None:
        return "-"
    if difference["low"] is None:
        return f"{number(difference['estimate'])} (no interval)"
    estimate, low, high = (number(difference[key]) for key in ("estimate", "low", "high"))
    return f"{estimate} \\[{low}, {high}]"


def number(value: float) -> str:
    """Return a number with three significant digits, shares with three decimals."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
