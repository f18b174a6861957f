"""What a model answers to each item, beside what was asked for: the rows of ``accuracy``."""

from collections.abc import Collection
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp.data.encoded import EncodedExample
from ntpctp.data.example import Example
from ntpctp.data.tasks import score_answer
from ntpctp.measures.computation.judging import Mode, check_finite, choices_of
from ntpctp.measures.measure import EncodedSplit, EvaluationContext
from ntpctp.measures.metrics import (
    brier_score,
    choice_correct,
    choice_probabilities,
    exact_match,
    normalised_choice_correct,
)
from ntpctp.models.inference import (
    Decoded,
    ExampleScores,
    GenerationRequest,
    score_and_generate,
    scoring_request,
)

OTHER = "other"
"""The solution of an answer that is none of the named ones."""


def answer_rows(
    subject: EvaluationContext,
    name: str,
    split: EncodedSplit,
    modes: Collection[Mode],
    prompt_loss: bool,
) -> list[dict[str, Any]]:
    """Return a row an item, see ``Accuracy``; what an item does not have is not in its row.

    Args:
        subject: the checkpoint.
        name: of the split.
        split: what to answer.
        modes: in which ways.
        prompt_loss: whether the loss on all that is not the answer is asked for.

    Raises:
        NotFiniteError: if a probability is.
    """
    read, likelihoods, written = _read(subject, split, modes, prompt_loss)
    texts = _Texts(subject.tokenizer)
    rows: list[dict[str, Any]] = []
    pairs = zip(split.examples, split.encoded, read, strict=True)
    for item, (example, row, seen) in enumerate(pairs):
        found: dict[str, Any] = {
            "split": name,
            "item": item,
            "strata": [f"{stratum} = {level}" for stratum, level in example.strata],
            **_losses(row, seen, prompt_loss or example.is_plain_text),
        }
        if "teacher_forced" in modes and not example.is_plain_text:
            found["teacher_forced"] = int(seen.matches[row.has_role("answer")].all())
        of_item, decoded = likelihoods[item], written[item]
        if of_item is not None:
            check_finite(of_item)
            found |= _chosen(example, of_item)
        if decoded is not None:
            found |= _answered(example, row, seen, decoded, texts)
        rows.append(found)
    return rows


def _read(
    subject: EvaluationContext, split: EncodedSplit, modes: Collection[Mode], prompt_loss: bool
) -> tuple[list[ExampleScores], list[NDArray[np.float64] | None], list[Decoded | None]]:
    """Read each item once: its reference, its candidates' log-likelihoods, what follows it."""
    by_choice = "choices" in modes
    choices = choices_of(split, subject.tokenizer) if by_choice else [None] * len(split.encoded)
    asked = []
    for example, row, candidates in zip(split.examples, split.encoded, choices, strict=True):
        # What the model writes is compared with the reference from where decoding takes over.
        first_of_answer = int(row.has_role("answer").argmax())
        whole = prompt_loss or row.answer_start < first_of_answer
        written = ("reasoning" if example.text("reasoning") else "greedy") in modes
        # Behind twice the reference's length no answer is right; the rest would be waste.
        limit = 2 * (len(row) - row.answer_start)
        asked.append(
            GenerationRequest(
                scoring_request(row, whole=whole)
                if candidates is None
                else replace(candidates, whole=whole),
                row,
                0 if candidates is None else example.choices.index(example.answer),
                limit if written and not example.is_plain_text else None,
            )
        )
    eos = int(subject.tokenizer.eos_token_id)
    found, answers = score_and_generate(subject.model, asked, eos, subject.budget)
    likelihoods = [
        None
        if candidates is None
        else np.array([-seen.losses.sum() for seen in read.continuations])
        for candidates, read in zip(choices, found, strict=True)
    ]
    return [one.read(read) for one, read in zip(asked, found, strict=True)], likelihoods, answers


def _losses(row: EncodedExample, seen: ExampleScores, whole: bool) -> dict[str, Any]:
    """Sums over the tokens that have a predecessor, in nats, and their numbers."""
    predicted = np.arange(len(row)) > 0
    answer = row.has_role("answer") & predicted
    parts = {"answer": answer}
    if whole:
        parts |= {"uncritical": predicted & ~answer, "all": predicted}
    found: dict[str, Any] = {}
    for key, where in parts.items():
        check_finite(seen.losses[where])
        found[f"{key}_loss_sum"] = float(seen.losses[where].sum())
        found[f"{key}_tokens"] = int(where.sum())
    return found


def _answered(
    example: Example, row: EncodedExample, seen: ExampleScores, decoded: Decoded, texts: "_Texts"
) -> dict[str, Any]:
    """Return what the model writes, and whether it is right."""
    reference = texts.reference(row)
    is_reference = seen.matches[row.answer_start :].all()
    answer = reference if is_reference else texts.answer(decoded, example)
    right = decoded.stopped and exact_match(answer, reference, example.normalise)
    found: dict[str, Any] = {
        "prediction": answer,
        "reference": reference,
        "exact_match": int(right),
        "stopped": int(decoded.stopped),
    }
    if not example.text("reasoning"):
        confidence = min(1.0, float(np.exp(decoded.log_probability)))
        found |= {"confidence": confidence, "brier": (confidence - right) ** 2}
    if example.judge:
        found["judged"] = score_answer(example.judge, answer) if decoded.stopped else 0.0
    if example.references:
        found["solutions"] = texts.solutions(answer, example) if decoded.stopped else [OTHER]
    return found


class _Texts:
    """Token ids as text; what recurs is decoded once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._decoded = cache(self._decode)
        self._as_written = cache(self._round_trip)

    def reference(self, row: EncodedExample) -> str:
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
