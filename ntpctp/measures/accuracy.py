"""Accuracy: is the answer right? And the loss on the same items, by the roles of their tokens."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from ntpctp.measures.judging import choices_of
from ntpctp.measures.measure import EncodedSplit, Measure, Score, Subject, mean_score
from ntpctp.reading import (
    Decoded,
    ReadRow,
    decode_greedily,
    log_likelihoods,
    read_rows,
)
from ntpctp.tasks import score_answer
from ntpctp.tasks.example import Example
from ntpctp.tasks.normalisation import Rule, normalised
from ntpctp.tokens import Row


class Accuracy(Measure):
    """Exact match of greedily decoded answers; the likeliest choice where the task has choices.

    Scores of each split:

    * ``exact_match``: share of items whose decoded answer is the reference, compared as decoded
      text with outer white space removed, and by the task's own rules (``tasks.normalisation``)
      where it has some. Where an example has reasoning, the model writes its own,
      and the answer is what follows the last answer marker.
    * ``choice``: share of items whose right candidate has the highest log-likelihood, summed over
      its tokens and the end of sequence, after the prompt (and the reference reasoning, if any).
      Ties count as wrong.
    * ``answer_loss``, ``all_loss``: nats per token over the answer's tokens, and over all tokens
      that have a predecessor: sum over items / sum of tokens.
    * ``stopped``: share of items whose decoding ended by the end-of-sequence token.
    * ``judged``: mean of what the task's own function gives for the decoded answer, from 0 to 1;
      only where it has one (``gym``), which may accept more answers than the reference.

    A score counts the items that have what it needs: ``choice`` those with choices, ``exact_match``
    all but plain text. Of plain text alone there is no answer to judge: only ``all_loss`` has a
    value.
    """

    name: Literal["accuracy"] = "accuracy"
    max_items: int | None = Field(None, ge=1, description="the first items of a split; null: all")
    train_items: int = Field(
        500, ge=0, description="the first items of the training split, to see how well it is fitted"
    )

    def measure(self, subject: Subject) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        sizes = dict.fromkeys(subject.evaluation_splits, self.max_items)
        if self.train_items:
            sizes["train"] = self.train_items
        for name, size in sizes.items():
            of_split = _judge(subject, name, subject.splits[name].head(size))
            rows += of_split
            scores += _scores(name, of_split)
        return rows, scores


def _judge(subject: Subject, name: str, split: EncodedSplit) -> list[dict[str, Any]]:
    read = read_rows(subject.model, split.rows, subject.budget)
    answers = _answers(subject, split, read)
    choices = _choose(subject, split)
    judged = []
    for item, (example, row, seen) in enumerate(zip(split.examples, split.rows, read, strict=True)):
        in_answer = row.has_role("answer")
        result: dict[str, Any] = {
            "split": name,
            "item": item,
            "prediction": answers[item].text,
            "reference": answers[item].reference,
            "exact_match": int(answers[item].right),
            "stopped": int(answers[item].stopped),
            "answer_loss_sum": float(seen.losses[in_answer].sum()),
            "answer_tokens": int(in_answer.sum()),
            "all_loss_sum": float(seen.losses[1:].sum()),
            "all_tokens": len(row) - 1,
        }
        if example.judge:
            answer = answers[item]
            result["judged"] = score_answer(example.judge, answer.text) if answer.stopped else 0.0
        if example.is_plain_text:
            for key in ("prediction", "reference", "exact_match", "stopped"):
                result[key] = None
        if example.choices:
            right = example.choices.index(example.answer)
            best = int(np.argmax(choices[item]))
            ties = int((choices[item] == choices[item][best]).sum())
            result["choice_log_likelihoods"] = choices[item].tolist()
            result["choice"] = int(best == right and ties == 1)
        judged.append(result)
    return judged


class _Answer:
    """A decoded answer beside its reference, both as the tokenizer decodes them."""

    def __init__(self, text: str, reference: str, stopped: bool, rules: tuple[Rule, ...] = ()):
        self.text, self.reference, self.stopped = text.strip(), reference.strip(), stopped
        self.right = stopped and normalised(text, rules) == normalised(reference, rules)


def _answers(subject: Subject, split: EncodedSplit, read: Sequence[ReadRow]) -> list[_Answer]:
    tokenizer = subject.tokenizer
    answers: dict[int, _Answer] = {}
    pending = []
    for item, (row, seen) in enumerate(zip(split.rows, read, strict=True)):
        if seen.matches[row.answer_start :].all():
            reference = _reference(row, tokenizer)
            answers[item] = _Answer(reference, reference, stopped=True)
        else:
            pending.append(item)
    written = decode_greedily(
        subject.model,
        [split.rows[item].input_ids[: split.rows[item].answer_start] for item in pending],
        # Behind twice the reference's length no answer is right; the rest would be waste.
        [2 * (len(split.rows[item]) - split.rows[item].answer_start) for item in pending],
        int(tokenizer.eos_token_id),
        subject.budget,
    )
    for item, decoded in zip(pending, written, strict=True):
        answers[item] = _Answer(
            _answer_text(decoded, split.examples[item], tokenizer),
            _reference(split.rows[item], tokenizer),
            decoded.stopped,
            split.examples[item].normalise,
        )
    return [answers[item] for item in range(len(split.rows))]


def _reference(row: Row, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(row.input_ids[row.has_role("answer")], skip_special_tokens=True))


def _answer_text(decoded: Decoded, example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    text = str(tokenizer.decode(decoded.ids, skip_special_tokens=True))
    if not example.text("reasoning"):
        return text
    # The marker as this tokenizer writes it: a closed vocabulary does not keep white space.
    marker_ids = tokenizer(example.answer_marker, add_special_tokens=False).input_ids
    marker = str(tokenizer.decode(marker_ids)).strip()
    return text.rpartition(marker)[2] if marker in text else ""


def _choose(subject: Subject, split: EncodedSplit) -> list[np.ndarray]:
    """Log-likelihood of every candidate of every item, summed over its tokens: float64 arrays."""
    choices = choices_of(split, subject.tokenizer)
    asked = [of_item for of_item in choices if of_item]
    found = iter(log_likelihoods(subject.model, asked, subject.budget))
    return [next(found) if of_item else np.array([]) for of_item in choices]


# score -> whether higher is better
_SHARES = {"exact_match": True, "judged": True, "choice": True, "stopped": None}


def _scores(split: str, rows: Sequence[dict[str, Any]]) -> list[Score]:
    if all(row["exact_match"] is None for row in rows):
        return _scores_of_text(split, rows)
    scores = [
        mean_score(
            [row[key] for row in rows if row.get(key) is not None],
            measure="accuracy",
            split=split,
            score=key,
            unit="share of items",
            higher_is_better=higher_is_better,
            rows_key=key,
        )
        for key, higher_is_better in _SHARES.items()
        if any(row.get(key) is not None for row in rows)
    ]
    return [*scores, *(_loss(split, rows, key) for key in ("answer_loss", "all_loss"))]


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


def _loss(split: str, rows: Sequence[dict[str, Any]], key: str) -> Score:
    losses = np.array([row[f"{key}_sum"] for row in rows])
    tokens = np.array([row[key.replace("loss", "tokens")] for row in rows])
    value = losses.sum() / tokens.sum()
    # Delta method for a ratio of means (Cochran 1977, section 2.11).
    error = None
    if len(rows) > 1:
        spread = (losses - value * tokens).std(ddof=1)
        error = float(spread / tokens.mean() / len(rows) ** 0.5)
    return Score(
        "accuracy",
        split,
        key,
        float(value),
        "nats per token",
        len(rows),
        higher_is_better=False,
        standard_error=error,
    )
