"""Measures against slow references: generate, a loop without padding, and autograd's Hessian."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.data.encoded import trim_prompt
from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import closed_tokenizer, encode
from ntpctp.measures import Accuracy, EncodedSplit, Flatness
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.scoring import mean_score
from ntpctp.models.build import build_model
from ntpctp.models.inference import TokenBudget, batches_by_length, decode_greedily, score_examples
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, Selective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

FAMILIES = ["gpt2", "llama", "openai-gpt"]
TOKENIZER = closed_tokenizer(["0123456789+=#"], "characters")


def collate(rows, objective):
    return SupervisedExamples(rows, objective).batch(range(len(rows)), 0)


def examples(number=12):
    """Sums with answers of one and two digits, so that lengths differ."""
    return [
        Example((Segment("prompt", f"{a}+{b}="), Segment("answer", str(a + b))))
        for a, b in [(i % 10, (7 * i) % 13) for i in range(number)]
    ]


def trained(family="gpt2", steps=60, **changes):
    """A model that knows some of the sums, so that right and wrong answers both occur."""
    options = ModelOptions(family=family, layers=1, width=16, heads=2, context=24, **changes)
    model = build_model(options, TOKENIZER, 8, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = encode(examples(), TOKENIZER)[:6]
    for _ in range(steps):
        loss, weight = token_loss(model, collate(rows, CTP()))
        (loss / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def context_of(model, tmp_path, items=None, objective=None, batch_tokens=64):
    model.save_pretrained(tmp_path)
    items = items or examples()
    split = EncodedSplit(items, encode(items, TOKENIZER))
    return EvaluationContext(
        source=tmp_path,
        tokenizer=TOKENIZER,
        splits={"train": split, "test": split},
        evaluation_splits=("test",),
        objective=objective or CTP(),
        batch_tokens=batch_tokens,
    )


def scores_by_name(scores, split="test"):
    return {s.score: s for s in scores if s.split == split}


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_equals_a_loop_without_padding(family):
    model = trained(family)
    rows = encode(examples(), TOKENIZER)
    for batch_tokens in (1, 20, 10_000):  # one row at a time, some, all
        for row, seen in zip(
            rows, score_examples(model, rows, TokenBudget(batch_tokens)), strict=True
        ):
            with torch.no_grad():
                logits = model(torch.from_numpy(row.input_ids)[None]).logits[0].double()
            expected = -logits.log_softmax(-1)[np.arange(len(row) - 1), row.input_ids[1:]]
            np.testing.assert_allclose(seen.losses[1:], expected, atol=1e-5)  # float32 model
            assert np.isnan(seen.losses[0]) and not seen.matches[0]
            assert (
                seen.matches[1:].tolist()
                == (logits[:-1].argmax(-1).numpy() == row.input_ids[1:]).tolist()
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_equals_generate(family):
    model = trained(family)
    prompts = [row.input_ids[: row.answer_start] for row in encode(examples(), TOKENIZER)]
    limits = [6] * len(prompts)
    decoded = decode_greedily(model, prompts, limits, TOKENIZER.eos_token_id, TokenBudget(40))
    model.generation_config.pad_token_id = TOKENIZER.pad_token_id
    stopped = 0
    for prompt, found in zip(prompts, decoded, strict=True):
        ids = torch.from_numpy(prompt)[None]
        reference = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=TOKENIZER.eos_token_id,
        )[0, len(prompt) :].tolist()
        ended = TOKENIZER.eos_token_id in reference
        assert found.stopped == ended
        assert found.ids.tolist() == [t for t in reference if t != TOKENIZER.eos_token_id]
        stopped += ended
    assert stopped > 0


def test_decoding_stops_at_the_context():
    model = trained()
    model.config.eos_token_id = None
    prompt = np.full(20, 5)
    (found,) = decode_greedily(model, [prompt], [100], eos_token_id=-1, budget=TokenBudget(100))
    assert len(found.ids) == 4 and not found.stopped  # the context has 24 positions


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_match_equals_decoding_every_item(family, tmp_path):
    model = trained(family)
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path))
    right = []
    for example, row in zip(examples(), encode(examples(), TOKENIZER), strict=True):
        prompt = row.input_ids[: row.answer_start]
        (found,) = decode_greedily(model, [prompt], [10], TOKENIZER.eos_token_id, TokenBudget(100))
        right.append(found.stopped and TOKENIZER.decode(found.ids) == example.answer)
    assert [bool(row["exact_match"]) for row in rows] == right
    score = scores_by_name(scores)["exact_match"]
    assert score.value == np.mean(right) and 0 < score.value < 1
    assert score.standard_error == pytest.approx(np.std(right, ddof=1) / len(right) ** 0.5)
    wrong = next(row for row in rows if not row["exact_match"])
    assert wrong["prediction"] != wrong["reference"]


def test_losses_are_token_means_over_the_split(tmp_path):
    model = trained().requires_grad_(False)
    _, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path))
    rows = encode(examples(), TOKENIZER)
    for name, objective in (("answer_loss", CTP()), ("all_loss", NTP())):
        loss, weight = token_loss(model, collate(rows, objective))
        found = scores_by_name(scores)[name]
        assert found.value == pytest.approx(float(loss / weight), rel=1e-5)
        # Jackknife reference for the standard error of a ratio; agrees to order 1/n.
        sums = [token_loss(model, collate([row], objective)) for row in rows]
        loo = [float((loss - part) / (weight - tokens)) for part, tokens in sums]
        jackknife = np.sqrt((len(rows) - 1) * np.var(loo))
        assert found.standard_error == pytest.approx(jackknife, rel=0.15)


def test_scores_do_not_depend_on_the_batch(tmp_path):
    model = trained()
    results = [
        Accuracy().measure(context_of(model, tmp_path, batch_tokens=tokens)) for tokens in (1, 9999)
    ]
    for one, many in zip(results[0][1], results[1][1], strict=True):
        assert one.value == pytest.approx(many.value, abs=1e-6), one.score


def test_choices_by_log_likelihood(tmp_path):
    model = trained()
    items = [Example(e.segments, choices=(e.answer, "99")) for e in examples()]
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, items))
    for example, row in zip(items, rows, strict=True):
        for choice, found in zip(example.choices, row["choice_log_likelihoods"], strict=True):
            (encoded,) = encode(
                [Example((example.segments[0], Segment("answer", choice)))], TOKENIZER
            )
            with torch.no_grad():
                loss, _ = token_loss(model, collate([encoded], CTP()))
            assert found == pytest.approx(-float(loss), abs=1e-4)
        values = row["choice_log_likelihoods"]
        assert row["choice"] == int(values[0] > values[1])
    share = scores_by_name(scores)["choice"].value
    assert share == np.mean([row["choice"] for row in rows])


def test_reasoning_is_the_models_own(tmp_path):
    """The model writes another reasoning than the reference but the right answer behind it."""
    items = [
        Example(
            (Segment("prompt", "1+1="), Segment("reasoning", "5#"), Segment("answer", "2")),
            answer_marker="#",
        )
    ]
    taught = encode(
        [
            Example(
                (Segment("prompt", "1+1="), Segment("reasoning", "7#"), Segment("answer", "2")),
                answer_marker="#",
            )
        ],
        TOKENIZER,
    )
    model = build_model(ModelOptions(family="gpt2", layers=1, width=16, heads=2), TOKENIZER, 16, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        token_loss(model, collate(taught, NTP()))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    rows, _ = Accuracy(train_items=0).measure(context_of(model.eval(), tmp_path, items))
    assert (rows[0]["prediction"], rows[0]["exact_match"]) == ("2", 1)


def dense_top_eigenvalue(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> float:
    """Largest algebraic eigenvalue of autograd's full Hessian, float64."""
    model = model.double()
    parameters = dict(model.named_parameters())
    names, sizes = list(parameters), [p.numel() for p in parameters.values()]

    def loss(flat):
        pieces = {
            name: piece.view_as(parameters[name])
            for name, piece in zip(names, flat.split(sizes), strict=True)
        }
        logits = torch.func.functional_call(
            model, pieces, (), {k: batch[k] for k in ("input_ids", "attention_mask")}
        ).logits[:, :-1]
        labels = batch["labels"][:, 1:]
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).double(), labels.flatten(), ignore_index=-100
        )
        return losses

    flat = torch.cat([p.detach().flatten() for p in parameters.values()])
    hessian = torch.autograd.functional.hessian(loss, flat, vectorize=True)
    return float(torch.linalg.eigvalsh(hessian)[-1])


@pytest.mark.parametrize("family", ["gpt2", "openai-gpt"])
@pytest.mark.parametrize("objective", [NTP(), CTP()], ids=lambda o: o.name)
@pytest.mark.slow
def test_flatness_equals_the_dense_hessian_on_uneven_masks(family, objective, tmp_path):
    options = ModelOptions(family=family, layers=1, width=8, heads=2)
    model = build_model(options, TOKENIZER, 8, seed=0)
    items = examples(8)
    measure = Flatness(max_items=8, relative_tolerance=1e-4)
    # Batches of few tokens: several batches with different numbers of answer tokens.
    context = context_of(model, tmp_path, items, objective, batch_tokens=64)
    rows, scores = measure.measure(context)
    reference = context.load("eager")
    for name, of in (("answer", CTP()), ("own", objective)):
        truth = dense_top_eigenvalue(reference, collate(encode(items, TOKENIZER), of))
        score = scores_by_name(scores, "train")[f"top_eigenvalue_{name}_loss"]
        assert score.value == pytest.approx(truth, rel=1e-3)
        assert score.error_bound <= 1e-4 * score.value
    assert [row["loss"] for row in rows] == ["answer", "own", "answer, first half", "none"]


def test_own_loss_of_a_selective_objective_has_no_hessian(tmp_path):
    selective = Selective(reference="anywhere")
    _, scores = Flatness(max_items=8).measure(context_of(trained(), tmp_path, None, selective))
    found = scores_by_name(scores, "train")
    assert found["top_eigenvalue_answer_loss"].value > 0
    assert found["top_eigenvalue_own_loss"].value is None
    assert "no single Hessian" in found["top_eigenvalue_own_loss"].reason


def test_unconverged_eigenvalue_is_null_with_its_reason(tmp_path):
    measure = Flatness(max_items=8, max_products=2, relative_tolerance=1e-6, half_tolerance=1e-6)
    _, scores = measure.measure(context_of(trained(), tmp_path))
    unconverged = [score for score in scores if score.score.endswith(("answer_loss", "own_loss"))]
    assert len(unconverged) == 2 + 1  # the half's too
    for score in unconverged:
        assert score.value is None
        assert "not converged: after 2 products" in score.reason


def test_batches_cover_every_item_once_and_keep_the_bound():
    lengths = [5, 3, 9, 3, 30, 1]
    batches = list(batches_by_length(lengths, 12))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 12


def test_mean_of_nothing_is_refused():
    with pytest.raises(InputError, match="accuracy: split 'test' has no item"):
        mean_score([], measure="accuracy", split="test", score="x", unit="", higher_is_better=True)


def test_choices_are_read_after_the_prompt_that_is_left(tmp_path):
    model = trained("llama", steps=5)
    items = [
        Example(
            (Segment("prompt", "0123456789"[:n] + "="), Segment("answer", "3")),
            choices=("3", "14"),
        )
        for n in (4, 8)
    ]
    context = context_of(model, tmp_path, items)
    split = context.splits["test"]
    trimmed = [trim_prompt(row, 4, "") for row in split.encoded]
    context.splits = {"test": EncodedSplit(split.examples, trimmed)}
    context.evaluation_splits = ("test",)
    rows, _ = Accuracy(train_items=0).measure(context)
    for row, result in zip(trimmed, rows, strict=True):
        for choice, found in zip(("3", "14"), result["choice_log_likelihoods"], strict=True):
            answer = [*context.tokenizer(choice, add_special_tokens=False).input_ids]
            answer.append(context.tokenizer.eos_token_id)
            given = row.input_ids[: row.answer_start].tolist()
            ids = torch.tensor([given + answer])
            logs = context.model(ids).logits[0].detach().log_softmax(-1)
            at = range(len(given) - 1, len(given) + len(answer) - 1)
            expected = sum(float(logs[t, i]) for t, i in zip(at, answer, strict=True))
            assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("first", [0, 1])
def test_a_score_counts_the_items_that_have_it(tmp_path, first):
    plain = Example((Segment("text", "1+1=2"),))
    bare = Example((Segment("prompt", "1+1="), Segment("answer", "2")))
    chosen = Example((Segment("prompt", "1+2="), Segment("answer", "3")), choices=("3", "4"))
    items = [plain, bare, chosen, chosen][:: 1 if first else -1]
    context = context_of(trained(steps=5), tmp_path, items)
    rows, scores = Accuracy(train_items=0).measure(context)
    counts = {score.score: score.count for score in scores if score.split == "test"}
    assert counts["choice"] == 2 and counts["exact_match"] == counts["stopped"] == 3
    found = scores_by_name(scores)
    chosen_rows = [row["choice"] for row in rows if "choice" in row]
    assert found["choice"].value == sum(chosen_rows) / 2
