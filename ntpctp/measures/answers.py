"""What a model answers to each item, beside what was asked for: the rows of ``accuracy``."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp.measures.judging import Mode, choices_of
from ntpctp.measures.measure import EncodedSplit, Subject
from ntpctp.measures.metrics import (
    brier_score,
    choice_correct,
    choice_probabilities,
    exact_match,
    normalised_choice_correct,
)
from ntpctp.reading import Decoded, ReadRow, answer_greedily, read_texts, text_of
from ntpctp.rows import Row
from ntpctp.tasks import score_answer
from ntpctp.tasks.example import Example

OTHER = "other"
"""The solution of an answer that is none of the named ones."""


def answer_rows(
    subject: Subject, name: str, split: EncodedSplit, modes: Collection[Mode], prompt_loss: bool
) -> list[dict[str, Any]]:
    """Return a row an item, see ``Accuracy``; what an item does not have is not in its row.

    Args:
        subject: the checkpoint.
        name: of the split.
        split: what to answer.
        modes: in which ways.
        prompt_loss: whether the loss on all that is not the answer is asked for.
    """
    read, likelihoods = _read(subject, split, modes, prompt_loss)
    rows: list[dict[str, Any]] = [
        {
            "split": name,
            "item": item,
            "strata": [f"{stratum} = {level}" for stratum, level in example.strata],
            **_losses(row, seen, prompt_loss or example.is_plain_text),
        }
        for item, (example, row, seen) in enumerate(
            zip(split.examples, split.rows, read, strict=True)
        )
    ]
    for k, example in enumerate(split.examples):
        if "teacher_forced" in modes and not example.is_plain_text:
            in_answer = split.rows[k].has_role("answer")
            rows[k]["teacher_forced"] = int(read[k].matches[in_answer].all())
        of_item = likelihoods[k]
        if of_item is not None:
            rows[k] |= _chosen(example, of_item)
    _decode(subject, split, read, modes, rows)
    return rows


def _read(
    subject: Subject, split: EncodedSplit, modes: Collection[Mode], prompt_loss: bool
) -> tuple[list[ReadRow], list[NDArray[np.float64] | None]]:
    """Read each item once: its reference, and the log-likelihoods of its candidates, if any."""
    by_choice = "choices" in modes
    choices = choices_of(split, subject.tokenizer) if by_choice else [None] * len(split.rows)
    texts = []
    for example, row, candidates in zip(split.examples, split.rows, choices, strict=True):
        # What the model writes for a reasoning is compared with the reference token by token.
        whole = prompt_loss or bool(example.text("reasoning"))
        texts.append(
            text_of(row, whole=whole) if candidates is None else replace(candidates, whole=whole)
        )
    rows: list[ReadRow] = []
    likelihoods: list[NDArray[np.float64] | None] = []
    for example, row, candidates, read in zip(
        split.examples,
        split.rows,
        choices,
        read_texts(subject.model, texts, subject.budget),
        strict=True,
    ):
        right = 0 if candidates is None else example.choices.index(example.answer)
        rows.append(ReadRow.of(row, read.context, read.continuations[right]))
        likelihoods.append(
            None
            if candidates is None
            else np.array([-seen.losses.sum() for seen in read.continuations])
        )
    return rows, likelihoods


def _losses(row: Row, seen: ReadRow, whole: bool) -> dict[str, Any]:
    """Sums over the tokens that have a predecessor, in nats, and their numbers."""
    predicted = np.arange(len(row)) > 0
    answer = row.has_role("answer") & predicted
    parts = {"answer": answer}
    if whole:
        parts |= {"uncritical": predicted & ~answer, "all": predicted}
    found: dict[str, Any] = {}
    for key, where in parts.items():
        found[f"{key}_loss_sum"] = float(seen.losses[where].sum())
        found[f"{key}_tokens"] = int(where.sum())
    return found


def _decode(
    subject: Subject,
    split: EncodedSplit,
    read: Sequence[ReadRow],
    modes: Collection[Mode],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Put what the model writes, and whether it is right, into ``rows``."""
    wanted = [
        k
        for k, example in enumerate(split.examples)
        if ("reasoning" if example.text("reasoning") else "greedy") in modes
        and not example.is_plain_text
    ]
    written = answer_greedily(
        subject.model,
        [split.rows[k] for k in wanted],
        [read[k] for k in wanted],
        # Behind twice the reference's length no answer is right; the rest would be waste.
        [2 * (len(split.rows[k]) - split.rows[k].answer_start) for k in wanted],
        int(subject.tokenizer.eos_token_id),
        subject.budget,
    )
    texts = _Texts(subject.tokenizer)
    for k, decoded in zip(wanted, written, strict=True):
        example = split.examples[k]
        reference = texts.reference(split.rows[k])
        answer = texts.answer(decoded, example)
        if read[k].matches[split.rows[k].answer_start :].all():
            answer = reference
        right = decoded.stopped and exact_match(answer, reference, example.normalise)
        rows[k] |= {
            "prediction": answer,
            "reference": reference,
            "exact_match": int(right),
            "stopped": int(decoded.stopped),
        }
        if not example.text("reasoning"):
            confidence = min(1.0, float(np.exp(decoded.log_probability)))
            rows[k] |= {"confidence": confidence, "brier": (confidence - right) ** 2}
        if example.judge:
            scored = score_answer(example.judge, answer) if decoded.stopped else 0.0
            rows[k]["judged"] = scored
        if example.references:
            rows[k]["solutions"] = texts.solutions(answer, example) if decoded.stopped else [OTHER]


class _Texts:
    """Token ids as text; what recurs is decoded once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._decoded = cache(self._decode)
        self._as_written = cache(self._round_trip)

    def reference(self, row: Row) -> str:
        return self._decoded(tuple(row.input_ids[row.has_role("answer")].tolist()))

    def answer(self, decoded: Decoded, example: Example) -> str:
        """The answer in what was written: behind the last marker, where there is reasoning."""
        text = self._decoded(tuple(decoded.ids.tolist()))
        if not example.text("reasoning"):
            return text
        marker = self._as_written(example.answer_marker)
        return text.rpartition(marker)[2].strip() if marker in text else ""

    def solutions(self, answer: str, example: Example) -> list[str]:
        """The names of all references that the answer equals; several may be one answer."""
        found = [
            name
            for name, text in example.references
            if exact_match(answer, self._as_written(text), example.normalise)
        ]
        return found or [OTHER]

    def _decode(self, ids: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _round_trip(self, text: str) -> str:
        """``text`` as this tokenizer writes it: a closed vocabulary does not keep white space."""
        return self._decode(tuple(self._tokenizer(text, add_special_tokens=False).input_ids))


def _chosen(example: Example, log_likelihoods: NDArray[np.float64]) -> dict[str, Any]:
    right = example.choices.index(example.answer)
    probabilities = choice_probabilities(log_likelihoods)
    by_length = normalised_choice_correct(log_likelihoods, example.choices, right)
    return {
        "choice_log_likelihoods": log_likelihoods.tolist(),
        "choice": int(choice_correct(log_likelihoods, right)),
        "choice_normalised": int(by_length),
        "choice_confidence": float(probabilities.max()),
        "choice_brier": brier_score(probabilities, right),
    }
