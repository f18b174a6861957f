"""Scores of accuracy, calibration and loss from the answers of a model."""

from collections.abc import Iterator, Sequence

import numpy as np

from ntpctp.measures.accuracy import Accuracy, Mode
from ntpctp.measures.computation.answers import OTHER, answer_results
from ntpctp.measures.computation.judging import default_mode
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.measures.metrics import expected_calibration_error, loss_per_token
from ntpctp.measures.scoring import bootstrap_error, mean_score
from ntpctp.measures.split import EncodedSplit

_MODES: tuple[Mode, ...] = ("choices", "greedy", "reasoning", "teacher_forced")


def measure(options: Accuracy, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Accuracy``."""
    rows: list[ItemResult] = []
    scores: list[Score] = []
    sizes = dict.fromkeys(context.evaluation_splits, options.max_items)
    if options.train_items:
        sizes["train"] = options.train_items
    for name, size in sizes.items():
        split = context.splits[name].head(size)
        results = answer_results(context, name, split, options.modes or _MODES, options.prompt_loss)
        rows += results
        scores += _scores(name, split, results, options.modes)
    return rows, scores


# score -> whether higher is better
_SHARES = {
    "choice": True,
    "choice_normalised": True,
    "exact_match": True,
    "teacher_forced": True,
    "judged": True,
    "stopped": None,
}
_BY_STRATUM = ("choice", "exact_match", "teacher_forced")
_LOSSES = ("answer_loss", "uncritical_loss", "all_loss")


def _scores(
    name: str, split: EncodedSplit, rows: Sequence[ItemResult], modes: Sequence[Mode] | None
) -> list[Score]:
    if all(example.is_plain_text for example in split.examples):
        return _scores_of_text(name, rows)
    own = default_mode(split.examples[0])
    first = "choice" if own == "choices" else "exact_match"  # the primary score
    return [
        *_means(name, rows, {first: True, **_SHARES}),
        *_absent(name, rows, modes),
        *_solutions(name, split, rows),
        *_calibration(name, rows, "choice_confidence", "choice", "choice_"),
        *_calibration(name, rows, "confidence", "exact_match", ""),
        *(_loss(name, rows, key) for key in _LOSSES if any(row.get(_tokens(key)) for row in rows)),
        *_by_stratum(name, rows, [first, *_BY_STRATUM]),
    ]


def _means(
    split: str, rows: Sequence[ItemResult], keys: dict[str, bool | None], stratum: str | None = None
) -> Iterator[Score]:
    for key, higher_is_better in keys.items():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values:
            yield mean_score(
                values,
                measure="accuracy",
                split=split,
                score=key,
                unit="share of items",
                higher_is_better=higher_is_better,
                rows_key=key,
                stratum=stratum,
            )


def _absent(
    split: str, rows: Sequence[ItemResult], modes: Sequence[Mode] | None
) -> Iterator[Score]:
    """Yield a null for each mode that the options name and no item allows."""
    for mode, (key, lack) in {
        "choices": ("choice", "choices"),
        "greedy": ("exact_match", "an answer without reasoning"),
        "reasoning": ("exact_match", "reasoning"),
    }.items():
        if mode in (modes or ()) and not any(key in row for row in rows):
            yield Score(
                "accuracy",
                split,
                key,
                None,
                "share of items",
                0,
                higher_is_better=True,
                reason=f"mode {mode} was asked for, but no item has {lack}",
            )


def _by_stratum(split: str, rows: Sequence[ItemResult], keys: Sequence[str]) -> Iterator[Score]:
    """Yield the accuracy of each level of a property in which the items differ."""
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
    """Yield the calibration error and the Brier score of one kind of answer."""
    judged = [row for row in rows if row.get(confidence) is not None]
    if not judged:
        return
    sure = np.array([row[confidence] for row in judged])
    right = np.array([row[correct] for row in judged])
    yield Score(
        "accuracy",
        split,
        f"{prefix}calibration_error",
        expected_calibration_error(sure, right),
        "share of items",
        len(judged),
        higher_is_better=False,
        standard_error=bootstrap_error(expected_calibration_error, sure, right),
    )
    yield mean_score(
        [row[f"{prefix}brier"] for row in judged],
        measure="accuracy",
        split=split,
        score=f"{prefix}brier",
        unit="squared probability",
        higher_is_better=False,
        rows_key=f"{prefix}brier",
    )


def _scores_of_text(split: str, rows: Sequence[ItemResult]) -> list[Score]:
    missing = [
        Score(
            "accuracy",
            split,
            key,
            None,
            unit,
            0,
            higher_is_better=higher_is_better,
            reason="plain text has no answer",
        )
        for key, unit, higher_is_better in (
            ("exact_match", "share of items", True),
            ("answer_loss", "nats per token", False),
        )
    ]
    return [*missing, _loss(split, rows, "all_loss")]


def _tokens(key: str) -> str:
    return key.replace("loss", "tokens")


def _loss(split: str, rows: Sequence[ItemResult], key: str) -> Score:
    rows = [row for row in rows if _tokens(key) in row]  # else not computed
    losses = np.array([row[f"{key}_sum"] for row in rows])
    tokens = np.array([row[_tokens(key)] for row in rows])
    value = loss_per_token(losses, tokens).nats
    # Delta method for a ratio of means (Cochran 1977, section 2.11).
    error = None
    if len(rows) > 1:
        spread = (losses - value * tokens).std(ddof=1)
        error = float(spread / tokens.mean() / len(rows) ** 0.5)
    return Score(
        "accuracy",
        split,
        key,
        value,
        "nats per token",
        len(rows),
        higher_is_better=False,
        standard_error=error,
    )
