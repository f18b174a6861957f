"""The answers of a model beside the references: the result rows of ``accuracy``."""

from collections.abc import Collection
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp.data.encoded import EncodedExample
from ntpctp.data.example import Example
from ntpctp.data.tasks import score_answer
from ntpctp.measures.accuracy import Mode
from ntpctp.measures.computation.judging import check_finite, choices_of
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import ItemResult
from ntpctp.measures.metrics import (
    brier_score,
    choice_correct,
    choice_probabilities,
    exact_match,
    normalised_choice_correct,
)
from ntpctp.measures.split import EncodedSplit
from ntpctp.models.inference import (
    Decoded,
    ExampleScores,
    GenerationRequest,
    score_and_generate,
    scoring_request,
)

OTHER = "other"  # the solution of an answer that equals none of the task's named references


def answer_results(
    context: EvaluationContext,
    name: str,
    split: EncodedSplit,
    modes: Collection[Mode],
    prompt_loss: bool,
) -> list[ItemResult]:
    """Return a row for each item, see ``Accuracy``, with the fields that apply to it.

    ``name`` is that of the split; ``prompt_loss`` adds the loss on all tokens outside the answer.
    """
    read, likelihoods, answers = _read(context, split, modes, prompt_loss)
    texts = _Texts(context.tokenizer)
    rows: list[ItemResult] = []
    items = zip(split.examples, split.encoded, read, likelihoods, answers, strict=True)
    for item, (example, encoded, tokens, log_likelihoods, decoded) in enumerate(items):
        row: ItemResult = {
            "split": name,
            "item": item,
            "strata": [f"{stratum} = {level}" for stratum, level in example.strata],
            **_losses(encoded, tokens, prompt_loss or example.is_plain_text),
        }
        if "teacher_forced" in modes and not example.is_plain_text:
            row["teacher_forced"] = int(tokens.matches[encoded.has_role("answer")].all())
        if log_likelihoods is not None:
            check_finite(log_likelihoods)
            row |= _by_choice(example, log_likelihoods)
        if decoded is not None:
            row |= _by_decoding(example, encoded, tokens, decoded, texts)
        rows.append(row)
    return rows


def _read(
    context: EvaluationContext, split: EncodedSplit, modes: Collection[Mode], prompt_loss: bool
) -> tuple[list[ExampleScores], list[NDArray[np.float64] | None], list[Decoded | None]]:
    """Return, for each item, its reference read, its candidates' log-likelihoods, its answer."""
    by_choice = "choices" in modes
    texts = choices_of(split, context.tokenizer) if by_choice else [None] * len(split.encoded)
    requests = []
    for example, encoded, candidates in zip(split.examples, split.encoded, texts, strict=True):
        # The answer is compared with the reference from the position where decoding starts.
        first_of_answer = int(encoded.has_role("answer").argmax())
        whole = prompt_loss or encoded.answer_start < first_of_answer
        decode = ("reasoning" if example.text("reasoning") else "greedy") in modes
        decode &= not example.is_plain_text
        # No answer longer than twice the reference is right; decoding more would be waste.
        limit = 2 * (len(encoded) - encoded.answer_start) if decode else None
        if candidates is None:
            scored, right = scoring_request(encoded, score_context=whole), 0
        else:
            scored = replace(candidates, score_context=whole)
            right = example.choices.index(example.answer)
        requests.append(GenerationRequest(scored, encoded, right, limit))
    eos = int(context.tokenizer.eos_token_id)
    read, answers = score_and_generate(context.model, requests, eos, context.budget)
    likelihoods = [
        np.array([-tokens.losses.sum() for tokens in of_item.continuations]) if candidates else None
        for candidates, of_item in zip(texts, read, strict=True)
    ]
    references = [r.example_scores(of_item) for r, of_item in zip(requests, read, strict=True)]
    return references, likelihoods, answers


def _losses(encoded: EncodedExample, tokens: ExampleScores, whole: bool) -> ItemResult:
    """Return sums of losses over tokens with a predecessor, in nats, and the numbers of tokens."""
    predicted = np.arange(len(encoded)) > 0
    answer = encoded.has_role("answer") & predicted
    parts = {"answer": answer}
    if whole:
        parts |= {"uncritical": predicted & ~answer, "all": predicted}
    row: ItemResult = {}
    for key, where in parts.items():
        check_finite(tokens.losses[where])
        row[f"{key}_loss_sum"] = float(tokens.losses[where].sum())
        row[f"{key}_tokens"] = int(where.sum())
    return row


def _by_choice(example: Example, log_likelihoods: NDArray[np.float64]) -> ItemResult:
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


def _by_decoding(
    example: Example,
    encoded: EncodedExample,
    tokens: ExampleScores,
    decoded: Decoded,
    texts: "_Texts",
) -> ItemResult:
    """Return the decoded answer, and whether it is right."""
    reference = texts.reference(encoded)
    is_reference = tokens.matches[encoded.answer_start :].all()
    answer = reference if is_reference else texts.answer(decoded, example)
    right = decoded.stopped and exact_match(answer, reference, example.normalise)
    row: ItemResult = {
        "prediction": answer,
        "reference": reference,
        "exact_match": int(right),
        "stopped": int(decoded.stopped),
    }
    if not example.text("reasoning"):
        confidence = min(1.0, float(np.exp(decoded.log_probability)))
        row |= {"confidence": confidence, "brier": (confidence - right) ** 2}
    if example.judge:
        row["judged"] = score_answer(example.judge, answer) if decoded.stopped else 0.0
    if example.references:
        row["solutions"] = texts.solutions(answer, example) if decoded.stopped else [OTHER]
    return row


class _Texts:
    """Decodes token ids to text; repeated ids are decoded once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._decoded = cache(self._decode)
        self._round_trip = cache(self._encode_and_decode)

    def reference(self, encoded: EncodedExample) -> str:
        return self._decoded(tuple(encoded.input_ids[encoded.has_role("answer")].tolist()))

    def answer(self, decoded: Decoded, example: Example) -> str:
        """Return the decoded answer: where there is reasoning, the text after the last marker."""
        text = self._decoded(tuple(decoded.ids.tolist()))
        if not example.text("reasoning"):
            return text
        marker = self._round_trip(example.answer_marker)
        return text.rpartition(marker)[2].strip() if marker in text else ""

    def solutions(self, answer: str, example: Example) -> list[str]:
        """Return the names of all references that the answer equals; there may be several."""
        names = [
            name
            for name, text in example.references
            if exact_match(answer, self._round_trip(text), example.normalise)
        ]
        return names or [OTHER]

    def _decode(self, ids: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _encode_and_decode(self, text: str) -> str:
        """Return ``text`` as this tokenizer writes it: some vocabularies drop white space."""
        return self._decode(tuple(self._tokenizer(text, add_special_tokens=False).input_ids))
