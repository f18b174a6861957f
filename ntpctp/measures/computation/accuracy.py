"""Scores of accuracy, calibration and loss from the answers of a model."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ntpctp.measures.accuracy import Accuracy, Mode
from ntpctp.measures.computation.answers import OTHER, answer_results
from ntpctp.measures.computation.judging import default_mode
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import ItemResult, Measurement, Score, joined
from ntpctp.measures.metrics import expected_calibration_error, loss_per_token
from ntpctp.measures.scoring import bootstrap_error, mean_score
from ntpctp.measures.split import EncodedSplit

_MODES: tuple[Mode, ...] = ("choices", "greedy", "reasoning", "teacher_forced")
_SHARE = "share of items"
_NATS = "nats per token"


def measure(options: Accuracy, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Accuracy``."""
    sizes = dict.fromkeys(context.evaluation_splits, options.max_items)
    if options.train_items:
        sizes["train"] = options.train_items
    return joined(_of_split(options, context, name, size) for name, size in sizes.items())


def _of_split(
    options: Accuracy, context: EvaluationContext, name: str, size: int | None
) -> Measurement:
    split = context.splits[name].head(size)
    rows = answer_results(context, name, split, options.modes or _MODES, options.prompt_loss)
    return rows, _scores(name, split, rows, options.modes or ())


_SHARES = ("choice", "choice_normalised", "exact_match", "teacher_forced", "judged")
_LOSSES = ("answer_loss", "uncritical_loss", "all_loss")


def _scores(
    name: str, split: EncodedSplit, rows: Sequence[ItemResult], modes: Sequence[Mode]
) -> list[Score]:
    if all(example.is_plain_text for example in split.examples):
        reason = "plain text has no answer"
        return [
            Score("accuracy", name, "exact_match", None, _SHARE, 0, True, reason=reason),
            Score("accuracy", name, "answer_loss", None, _NATS, 0, False, reason=reason),
            _loss(name, rows, "all_loss"),
        ]
    own = default_mode(split.examples[0])
    first = "choice" if own == "choices" else "exact_match"  # the primary score
    return [
        *_means(name, rows, dict.fromkeys((first, *_SHARES), True)),
        *_means(name, rows, {"stopped": None}),
        *_absent(name, rows, modes),
        *_solutions(name, split, rows),
        *_calibration(name, rows, "choice_confidence", "choice", "choice_"),
        *_calibration(name, rows, "confidence", "exact_match", ""),
        *(_loss(name, rows, key) for key in _LOSSES if any(row.get(_tokens(key)) for row in rows)),
        *_by_stratum(name, rows, [first, "choice", "exact_match", "teacher_forced"]),
    ]


def _means(
    split: str,
    rows: Sequence[ItemResult],
    keys: dict[str, bool | None],
    stratum: str | None = None,
    unit: str = _SHARE,
) -> Iterator[Score]:
    for key, higher in keys.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            fields: dict[str, Any] = {
                "higher_is_better": higher,
                "rows_key": key,
                "stratum": stratum,
            }
            yield mean_score(values, "accuracy", split, key, unit, **fields)


def _absent(split: str, rows: Sequence[ItemResult], modes: Sequence[Mode]) -> Iterator[Score]:
    """Yield a null for each mode that the options name and no item allows."""
    for mode, (key, lack) in {
        "choices": ("choice", "choices"),
        "greedy": ("exact_match", "an answer without reasoning"),
        "reasoning": ("exact_match", "reasoning"),
    }.items():
        if mode in modes and not any(key in row for row in rows):
            reason = f"mode {mode} was asked for, but no item has {lack}"
            yield Score("accuracy", split, key, None, _SHARE, 0, True, reason=reason)


def _by_stratum(split: str, rows: Sequence[ItemResult], keys: Sequence[str]) -> Iterator[Score]:
    levels: dict[str, dict[str, None]] = {}
    for row in rows:
        for stratum in row["strata"]:
            levels.setdefault(stratum.partition(" = ")[0], {})[stratum] = None
    for strata in levels.values():
        if len(strata) < 2:
            continue
        for stratum in sorted(strata, key=_in_order):
            members = [row for row in rows if stratum in row["strata"]]
            yield from _means(split, members, dict.fromkeys(keys, True), stratum)


def _in_order(stratum: str) -> tuple[float, str]:
    """Sort numbers by size, before words."""
    level = stratum.partition(" = ")[2]
    try:
        return float(level), ""
    except ValueError:
        return float("inf"), level


def _solutions(split: str, items: EncodedSplit, rows: Sequence[ItemResult]) -> Iterator[Score]:
    """Yield the share of each solution that the task names, and of all other answers."""
    answered = [row for row in rows if "solutions" in row]
    names = sorted({name for example in items.examples for name, _ in example.references})
    for name in [*names, OTHER] if answered else []:
        for row in answered:
            row[f"solution_{name}"] = int(name in row["solutions"])
        yield from _means(split, answered, {f"solution_{name}": None})


def _calibration(
    split: str, rows: Sequence[ItemResult], confidence: str, correct: str, prefix: str
) -> Iterator[Score]:
    judged = [row for row in rows if row.get(confidence) is not None]
    if not judged:
        return
    sure, right = (np.array([row[key] for row in judged]) for key in (confidence, correct))
    value = expected_calibration_error(sure, right)
    error = bootstrap_error(expected_calibration_error, sure, right)
    name = f"{prefix}calibration_error"
    yield Score("accuracy", split, name, value, _SHARE, len(judged), False, error)
    yield from _means(split, judged, {f"{prefix}brier": False}, unit="squared probability")


def _tokens(key: str) -> str:
    return key.replace("loss", "tokens")


def _loss(split: str, rows: Sequence[ItemResult], key: str) -> Score:
    rows = [row for row in rows if _tokens(key) in row]  # else not computed
    losses, tokens = (np.array([row[k] for row in rows]) for k in (f"{key}_sum", _tokens(key)))
    value = loss_per_token(losses, tokens).nats
    # Delta method for a ratio of means (Cochran 1977, section 2.11).
    error = None
    if len(rows) > 1:
        spread = (losses - value * tokens).std(ddof=1)
        error = float(spread / tokens.mean() / len(rows) ** 0.5)
    return Score("accuracy", split, key, value, _NATS, len(rows), False, error)
