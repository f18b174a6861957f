"""Accuracy: is the answer right? And the loss on the same items, by the roles of their tokens."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ntpctp.measures.computation.answers import OTHER, answer_rows
from ntpctp.measures.computation.judging import Mode, default_mode
from ntpctp.measures.measure import (
    EncodedSplit,
    EvaluationContext,
    Measure,
    Score,
    bootstrap_error,
    mean_score,
)
from ntpctp.measures.metrics import expected_calibration_error, loss_per_token

_MODES: tuple[Mode, ...] = ("choices", "greedy", "reasoning", "teacher_forced")


class Accuracy(Measure):
    r"""Is the answer right? In each mode that the items allow, the task's own first.

    The task's own mode, which the verdict is about, is ``reasoning`` where examples have reasoning,
    else ``choices`` where they have choices, else ``greedy``.

    * ``exact_match`` (modes ``greedy`` and ``reasoning``): share of items whose greedily decoded
      answer is the reference, compared as decoded text with outer white space removed, and by the
      task's own rules (``tasks.normalisation``) where it has some. Where an example has reasoning,
      the model writes its own, and the answer is what follows the last answer marker. An answer
      that has not ended is wrong.
    * ``choice`` (mode ``choices``): share of items whose right candidate has the highest
      log-likelihood, summed over its tokens and the end of sequence, after the prompt (and the
      reference reasoning, if any). ``choice_normalised``: the same with log-likelihoods divided by
      the candidate's characters (``acc_norm`` of lm-evaluation-harness). Ties count as wrong.
    * ``teacher_forced``: share of items whose answer is the greedy choice at each of its positions,
      given the reference before it (with its reasoning, if any).
    * ``stopped``: share of items whose decoding ended by the end-of-sequence token.
    * ``judged``: mean of what the task's own function gives for the decoded answer, from 0 to 1;
      only where it has one (``gym``), which may accept more answers than the reference.
    * ``solution_<name>``: share of items whose decoded answer is the named reference of the task
      (``inferential``, ``symmetric``; one answer may be both), ``solution_other``: none of them.
    * ``choice_calibration_error``, ``calibration_error``: how far the confidence in the likeliest
      candidate (its share of the candidates' likelihood), or in the decoded answer (its
      probability; not where there is reasoning), is from the share of right ones: expected
      calibration error over 15 bins, :math:`\sum_b n_b/n |acc_b - conf_b|`. Its standard error is
      that of 200 resamples of the items.
    * ``choice_brier``: squared distance of the candidates' probabilities from the right answer,
      0 to 2; ``brier``: of the decoded answer's probability from whether it is right, 0 to 1.
    * ``answer_loss``, ``uncritical_loss``, ``all_loss``: nats per token over the answer's tokens
      (the critical ones), over all others, and over all tokens that have a predecessor: sum over
      items / sum of tokens, alike for all arms.

    Where items of a split differ in a property that the task declares (hops, depth, anchors, ...),
    ``exact_match``, ``choice`` and ``teacher_forced`` are given for the items of each level, too.

    A score counts the items that have what it needs: ``choice`` those with choices, ``exact_match``
    all but plain text. Of plain text alone there is no answer to judge: only ``all_loss`` has a
    value.
    """

    name: Literal["accuracy"] = "accuracy"
    modes: list[Mode] | None = Field(
        None,
        min_length=1,
        description="how answers are judged: choices, greedy, reasoning, teacher_forced; null: in "
        "all ways that the items allow",
    )
    prompt_loss: bool = Field(
        True,
        description="also the loss on what is not the answer, which costs the head at every token",
    )
    max_items: int | None = Field(None, ge=1, description="the first items of a split; null: all")
    train_items: int = Field(
        500, ge=0, description="the first items of the training split, to see how well it is fitted"
    )

    version = 2

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        sizes = dict.fromkeys(subject.evaluation_splits, self.max_items)
        if self.train_items:
            sizes["train"] = self.train_items
        for name, size in sizes.items():
            split = subject.splits[name].head(size)
            of_split = answer_rows(subject, name, split, self.modes or _MODES, self.prompt_loss)
            rows += of_split
            scores += _scores(name, split, of_split, self.modes)
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
    name: str,
    split: EncodedSplit,
    rows: Sequence[dict[str, Any]],
    modes: Sequence[Mode] | None,
) -> list[Score]:
    if all(example.is_plain_text for example in split.examples):
        return _scores_of_text(name, rows)
    own = default_mode(split.examples[0])
    first = "choice" if own == "choices" else "exact_match"  # what the task is judged by
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
    split: str,
    rows: Sequence[dict[str, Any]],
    keys: dict[str, bool | None],
    stratum: str | None = None,
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
    split: str, rows: Sequence[dict[str, Any]], modes: Sequence[Mode] | None
) -> Iterator[Score]:
    """Yield a null for each mode that was asked for by name and that no item allows."""
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


def _by_stratum(split: str, rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> Iterator[Score]:
    """Yield the accuracy of each level of a property in which the items differ."""
    levels: dict[str, dict[str, None]] = {}
    for row in rows:
        for stratum in row["strata"]:
            levels.setdefault(stratum.partition(" = ")[0], {})[stratum] = None
    for of_property in levels.values():
        if len(of_property) < 2:
            continue
        for stratum in sorted(of_property, key=_in_order):
            members = [row for row in rows if stratum in row["strata"]]
            yield from _means(split, members, dict.fromkeys(keys, True), stratum)


def _in_order(stratum: str) -> tuple[float, str]:
    """Numbers by size, before words."""
    level = stratum.partition(" = ")[2]
    try:
        return float(level), ""
    except ValueError:
        return float("inf"), level


def _solutions(split: str, items: EncodedSplit, rows: Sequence[dict[str, Any]]) -> Iterator[Score]:
    """Yield the share of each solution that the task names, found or not, and of all others."""
    answered = [row for row in rows if "solutions" in row]
    names = sorted({name for example in items.examples for name, _ in example.references})
    for name in [*names, OTHER] if answered else []:
        for row in answered:
            row[f"solution_{name}"] = int(name in row["solutions"])
        yield from _means(split, answered, {f"solution_{name}": None})


def _calibration(
    split: str, rows: Sequence[dict[str, Any]], confidence: str, correct: str, prefix: str
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


def _scores_of_text(split: str, rows: Sequence[dict[str, Any]]) -> list[Score]:
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


def _loss(split: str, rows: Sequence[dict[str, Any]], key: str) -> Score:
    rows = [row for row in rows if _tokens(key) in row]  # without prompt_loss plain text alone
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
