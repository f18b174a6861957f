"""The comparison of one experiment as tables."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ntpctp.analysis.scores import IDENTITY, stands_alone
from ntpctp.report.verdict_words import shown_verdict

_MOST_MISSING = 10


def comparison_tables(
    comparison: dict[str, Any], others: str = "see the report"
) -> Iterator[RenderableType]:
    """Yield the tables of a comparison, one for each pair of arms.

    They have the scores with a better direction that do not refine another score.

    Args:
        comparison: content of ``comparison.json``.
        others: where to find the other scores.
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
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        # Wrapped in a narrow terminal: a number must not be truncated.
        table.add_column("score", min_width=12, overflow="fold")
        for name in (a, b, f"{a} - {b}"):
            table.add_column(Text(name), justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold")
        for score, pair in entries:
            table.add_row(
                score_name(score),
                *(_level_and_spread(score["arms"][arm]) for arm in (a, b)),
                _interval(pair) + _fewer_seeds(score, pair),
                Text(
                    shown_verdict(pair["verdict"]["words"])
                    if pair["verdict"]
                    else pair["reason"] or "-"
                ),
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
    """Yield the table of main effects and interactions, if the experiment has a grid."""
    level = f"{100 * comparison['level']:g}%"
    title = f"factors at the last step: mean difference, {level} interval, p (Holm)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("score", "contrast"):
        table.add_column(name)
    for name in ("difference", "p"):
        table.add_column(name, justify="right")
    for score in comparison["scores"]:
        if score["higher_is_better"] is None or not _stands_alone(score):
            continue
        for entry in score["effects"]:
            p, effect = entry["holm_p_value"], entry["effect"]
            table.add_row(
                score_name(score),
                "; ".join(
                    f"{factor}: {a} - {b}"
                    for factor, (a, b) in zip(effect["factors"], effect["levels"], strict=True)
                ),
                _interval(effect),
                "-" if p is None else f"{p:.2g}",
            )
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
    deviation = spread["standard_deviation"]
    return (
        f"{number(spread['mean'])} ({number(deviation) if deviation is not None else 'one seed'})"
    )


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
    return (
        f"{number(difference['estimate'])} "
        f"\\[{number(difference['low'])}, {number(difference['high'])}]"
    )


def number(value: float) -> str:
    """Return a number with three significant digits, shares with three decimals."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
