"""Greedy decoding against the library's own ``generate``, and answering against decoding."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.models.inference import (
    GenerationRequest,
    ScoringRequest,
    TokenBudget,
    decode_greedily,
    decoding,
    generate,
    score_and_generate,
    score_requests,
)
from tests.models.inference.small_models import (
    VOCABULARY,
    log_probabilities,
    random_ids,
    random_model,
)

NONE = -1  # no token: nothing ends
CACHED = ["gpt2", "llama", "qwen2", "gpt_neox", "opt"]
READ_ANEW = ["openai-gpt", "bloom"]


def prompts(number=14):
    return [random_ids(1 + (5 * k) % 11, k) for k in range(number)]


def ending(model):
    """A token that some rows come to soon and others do not: it serves as the end of sequence."""
    written = [greedy(model, prompt, 8, NONE)[0] for prompt in prompts()]
    counts = Counter(token for ids in written for token in set(ids))
    return next(token for token, n in counts.most_common() if n < len(written))


def greedy(model, prompt, most, eos):
    """One token after the other, the whole row read anew: ids, whether it ended, log p."""
    ids, total = list(prompt), 0.0
    for _ in range(most):
        logs = log_probabilities(model, np.array(ids))[-1]
        token = int(logs.argmax())
        total += logs[token]
        if token == eos:
            return ids[len(prompt) :], True, total
        ids.append(token)
    return ids[len(prompt) :], False, total


@pytest.mark.parametrize("family", CACHED + READ_ANEW)
@pytest.mark.parametrize("tokens", [1, 40, 10_000])
@pytest.mark.slow
def test_equals_a_loop_over_single_rows(family, tokens):
    model = random_model(family)
    limits, eos = [3 + k % 9 for k in range(14)], ending(model)
    found = decode_greedily(model, prompts(), limits, eos, TokenBudget(tokens))
    ended = 0
    for prompt, limit, written in zip(prompts(), limits, found, strict=True):
        ids, stopped, log_probability = greedy(model, prompt, limit, eos)
        assert (written.ids.tolist(), written.stopped) == (ids, stopped)
        assert written.log_probability == pytest.approx(log_probability, rel=2e-6)
        ended += stopped
    # Rows leave the batch at different times, some by the end of sequence.
    assert 0 < ended < len(found)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_equals_generate(family):
    model = random_model(family)
    eos = ending(model)
    found = decode_greedily(model, prompts(), [8] * 14, eos, TokenBudget())
    for prompt, written in zip(prompts(), found, strict=True):
        ids = torch.from_numpy(prompt)[None]
        reference = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        assert written.ids.tolist() == [token for token in reference if token != eos]
        assert written.stopped == (eos in reference)


@pytest.mark.parametrize("family", CACHED + READ_ANEW)
def test_the_cache_is_used_where_it_can_be_trusted(family):
    assert decoding.can_cache(random_model(family), prompts(), 30) == (family in CACHED)


def test_with_a_cache_each_token_is_read_once(monkeypatch):
    model = random_model("gpt2")
    read = []
    model.transformer.wte.register_forward_hook(lambda m, i, output: read.append(output.numel()))
    monkeypatch.setattr(decoding, "can_cache", lambda model, prompts, longest: True)
    decode_greedily(model, [random_ids(9, 0)], [5], NONE, TokenBudget())
    assert [numel // 16 for numel in read] == [9, 1, 1, 1, 1]


def test_stops_at_the_context():
    model = random_model("gpt2")
    (found,) = decode_greedily(model, [random_ids(60, 0)], [100], NONE, TokenBudget())
    assert len(found.ids) == 4 and not found.stopped  # the context has 64 positions
    (full,) = decode_greedily(model, [random_ids(64, 0)], [100], NONE, TokenBudget())
    assert len(full.ids) == 0 and not full.stopped


def test_no_prompts():
    assert decode_greedily(random_model("gpt2"), [], [], NONE, TokenBudget()) == []


def answered_rows(model, eos):
    """References that agree with the greedy choice for 0, 1, 2, ... tokens, or throughout."""
    rows = []
    for k, prompt in enumerate(prompts()):
        ids, _, _ = greedy(model, prompt, 6, eos)
        ids = ids[: k % 6]
        if k % 3 == 0:  # go wrong behind them
            ids = [*ids, (ids[-1] if ids else 0) + 1]
        answer = [token % VOCABULARY for token in ids] + [eos]
        roles = [ROLE_CODES["prompt"]] * len(prompt) + [ROLE_CODES["answer"]] * len(answer)
        rows.append(
            EncodedExample(
                np.array([*prompt, *answer]), np.array(roles, np.uint8), answer_start=len(prompt)
            )
        )
    return rows


def plain_text(row):
    return ScoringRequest(row.input_ids[: row.answer_start], (row.input_ids[row.answer_start :],))


def others(row, k):
    """Up to two further continuations, and which of all the row's own one is."""
    own = row.input_ids[row.answer_start :]
    more = [random_ids(1 + (k + c) % 4, 90 + 3 * k + c) for c in range(k % 3)]
    return (*more[:1], own, *more[1:]), len(more[:1])


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "openai-gpt", "bloom", "mistral"])
@pytest.mark.parametrize("longer_by", [-2, 0, 4])
@pytest.mark.parametrize("branching", [False, True])
@pytest.mark.slow
def test_answers_are_what_decoding_the_prompt_gives(family, longer_by, branching):
    """From the keys and values of reading the reference, or anew where a family has none."""
    fields = {"sliding_window": 5} if family == "mistral" else {}
    model = random_model(family, **fields)
    eos = ending(model)
    rows = answered_rows(model, eos)
    asked = []
    for k, row in enumerate(rows):
        text, own = plain_text(row), 0
        if branching:
            continuations, own = others(row, k)
            text = ScoringRequest(text.context, continuations, score_context=bool(k % 2))
        limit = max(1, len(row) - row.answer_start + longer_by)
        asked.append(GenerationRequest(text, row, own, limit if k % 5 else None))
    read, found = score_and_generate(model, asked, eos, TokenBudget(50))
    texts = [one.scoring for one in asked]
    for one, other in zip(read, score_requests(model, texts, TokenBudget(1)), strict=True):
        for a, b in zip(one.continuations, other.continuations, strict=True):
            np.testing.assert_allclose(a.losses, b.losses, rtol=2e-6)
    stopped = set()
    for one, answer in zip(asked, found, strict=True):
        if one.limit is None:
            assert answer is None
            continue
        prompt = one.example.input_ids[: one.example.answer_start]
        ids, ended, log_probability = greedy(model, prompt, one.limit, eos)
        assert (answer.ids.tolist(), answer.stopped) == (ids, ended)
        assert answer.log_probability == pytest.approx(log_probability, rel=2e-6)
        stopped.add(ended)
    assert stopped == {True, False} or longer_by < 0


def test_reasoning_is_part_of_what_is_written():
    """The answer is a continuation; decoding takes over before it, at the reasoning."""
    model = random_model("gpt2")
    eos = ending(model)
    for row in answered_rows(model, eos):
        for shift in range(min(3, row.answer_start)):
            start = row.answer_start - shift
            again = EncodedExample(row.input_ids, row.roles, start)
            asked = [GenerationRequest(replace(plain_text(row), score_context=True), again, 0, 6)]
            _, (found,) = score_and_generate(model, asked, eos, TokenBudget())
            expected = greedy(model, row.input_ids[:start], 6, eos)
            assert (found.ids.tolist(), found.stopped) == expected[:2]


def test_what_was_read_is_not_read_again(monkeypatch):
    model = random_model("gpt2")
    row = EncodedExample(random_ids(20, 0), np.array([0] * 15 + [2] * 5, np.uint8), 15)
    asked = [
        GenerationRequest(ScoringRequest(row.input_ids[:15], (row.input_ids[15:],)), row, 0, 4)
    ]
    score_and_generate(model, asked, NONE, TokenBudget())  # what is tried once is tried
    monkeypatch.setattr(generate, "can_cache", lambda model, prompts, longest: True)
    sizes = []
    model.transformer.wte.register_forward_hook(lambda m, i, output: sizes.append(output.numel()))
    score_and_generate(model, asked, NONE, TokenBudget())
    assert [size // 16 for size in sizes] == [19, 1, 1, 1]


def test_sequences_of_many_batches_are_continued_together(monkeypatch):
    model = random_model("llama")
    eos = ending(model)
    asked = [GenerationRequest(plain_text(row), row, 0, 9) for row in answered_rows(model, eos)]
    many = score_and_generate(model, asked, eos, TokenBudget(20))[1]
    for kept in (1, 40):  # tokens of rows that wait
        monkeypatch.setattr(generate, "_MAX_WAITING_TOKENS", kept)
        few = score_and_generate(model, asked, eos, TokenBudget(20))[1]
        for one, other in zip(many, few, strict=True):
            assert one.ids.tolist() == other.ids.tolist() and one.stopped == other.stopped
            assert one.log_probability == pytest.approx(other.log_probability, rel=2e-6)


@pytest.mark.parametrize("family", ["mistral", "gemma3_text"])
@pytest.mark.parametrize("window", [8, 64])
def test_rows_that_outgrow_a_window_of_attention(family, window):
    """A cache with a window drops tokens by place, padding included: then rows are read anew."""
    model = random_model(family, sliding_window=window)
    tried = [random_ids(3, 0), random_ids(5, 1), random_ids(2, 2)]
    found = decode_greedily(model, tried, [14, 3, 14], NONE, TokenBudget())
    for prompt, written in zip(tried, found, strict=True):
        assert written.ids.tolist() == greedy(model, prompt, len(written.ids), NONE)[0]
    assert decoding.can_cache(model, tried, 19) == (window == 64)


def test_large_models_keep_few_tokens_waiting(monkeypatch):
    model = random_model("gpt2")  # two layers of width 16, float64: 512 bytes a token
    assert generate._max_waiting(model) == 16_384
    monkeypatch.setattr(generate, "_MAX_WAITING_BYTES", 512 * 100)
    assert generate._max_waiting(model) == 100
