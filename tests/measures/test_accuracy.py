"""Modes, strata, solutions, calibration and losses of accuracy, each recomputed from its items."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import encode
from ntpctp.measures import Accuracy
from ntpctp.measures.computation.judging import JudgedItems, default_mode
from ntpctp.models.build import build_model
from ntpctp.models.inference import TokenBudget
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import NTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from tests.measures.test_measures import TOKENIZER, context_of, examples, scores_by_name, trained


def chosen(number=12, strata=False):
    """Sums with two or three candidates of different lengths."""
    found = []
    for k, example in enumerate(examples(number)):
        wrong = (str(int(example.answer) + 1), "7")[: 1 + k % 2]
        others = [text for text in wrong if text != example.answer]
        choices = (*others, example.answer) if k % 3 else (example.answer, *others)
        levels = (("size", str(k % 3)), ("kind", "seen" if k < 6 else "new")) if strata else ()
        found.append(Example(example.segments, choices=choices, strata=levels))
    return found


def reasoned():
    return [
        Example(
            (Segment("prompt", f"{a}+{b}="), Segment("reasoning", f"{a}#"), Segment("answer", "2")),
            answer_marker="#",
            choices=("2", "3"),
        )
        for a, b in [(1, 1), (0, 2), (3, 5), (2, 0)]
    ]


def log_probability(model, prompt, ids):
    with torch.no_grad():
        logs = model(torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(-1)
    first = len(prompt) - 1
    return sum(float(logs[first + k, token]) for k, token in enumerate(ids))


def test_the_own_mode_of_a_task_comes_first(tmp_path):
    model = trained()
    for items, mode, score in (
        (examples(), "greedy", "exact_match"),
        (chosen(), "choices", "choice"),
        (reasoned(), "reasoning", "exact_match"),
    ):
        assert default_mode(items[0]) == mode
        _, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, items))
        assert scores[0].score == score


@pytest.mark.parametrize(
    "modes, expected, absent",
    [
        (["choices"], {"choice", "choice_normalised", "choice_brier"}, {"exact_match", "stopped"}),
        (["greedy"], {"exact_match", "stopped", "brier"}, {"choice", "teacher_forced"}),
        (["teacher_forced"], {"teacher_forced"}, {"choice", "exact_match"}),
    ],
)
def test_only_the_modes_asked_for(tmp_path, modes, expected, absent):
    context = context_of(trained(), tmp_path, chosen())
    _, scores = Accuracy(modes=modes, train_items=0).measure(context)
    names = {score.score for score in scores}
    assert expected <= names and not absent & names
    assert {"answer_loss", "uncritical_loss", "all_loss"} <= names


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValidationError, match="'choices', 'greedy', 'reasoning' or 'teacher_fo"):
        Accuracy(modes=["sampled"])


def test_teacher_forcing_judges_the_answer_given_the_reference(tmp_path):
    items = reasoned()
    model = trained()
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, items))
    expected = []
    for row in encode(items, TOKENIZER):
        with torch.no_grad():
            greedy = model(torch.from_numpy(row.input_ids)[None]).logits[0].argmax(-1).numpy()
        inside = row.has_role("answer")[1:]
        expected.append(int((greedy[:-1] == row.input_ids[1:])[inside].all()))
    assert [row["teacher_forced"] for row in rows] == expected
    assert scores_by_name(scores)["teacher_forced"].value == np.mean(expected)


def test_the_losses_of_both_views_add_up(tmp_path):
    model = trained()
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, reasoned()))
    for row in rows:
        for what in ("loss_sum", "tokens"):
            parts = row[f"answer_{what}"] + row[f"uncritical_{what}"]
            assert row[f"all_{what}"] == pytest.approx(parts, rel=1e-12)
    encoded = encode(reasoned(), TOKENIZER)
    batch = SupervisedExamples(encoded, NTP()).batch(range(len(encoded)), 0)
    batch["labels"] = torch.where(
        torch.stack([torch.from_numpy(~row.has_role("answer")) for row in encoded]),
        batch["labels"],
        -100,
    )
    with torch.no_grad():
        loss, _ = token_loss(model, batch)
    uncritical = sum(int((~row.has_role("answer")).sum()) - 1 for row in encoded)
    found = scores_by_name(scores)["uncritical_loss"].value
    assert found == pytest.approx(float(loss) / uncritical, rel=1e-5)


def test_confidence_in_a_decoded_answer_is_its_probability(tmp_path):
    model = trained()
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path))
    briers = []
    for row, encoded in zip(rows, encode(examples(), TOKENIZER), strict=True):
        ids = TOKENIZER(row["prediction"], add_special_tokens=False).input_ids
        ids += [TOKENIZER.eos_token_id] if row["stopped"] else []
        prompt = encoded.input_ids[: encoded.answer_start]
        probability = np.exp(log_probability(model, prompt, ids))
        assert row["confidence"] == pytest.approx(probability, rel=1e-4)
        briers.append((probability - row["exact_match"]) ** 2)
    found = scores_by_name(scores)
    assert found["brier"].value == pytest.approx(np.mean(briers), rel=1e-4)
    # By hand: 15 bins, their sizes and means.
    total = 0.0
    for low in range(15):
        of_bin = [row for row in rows if low / 15 < row["confidence"] <= (low + 1) / 15]
        if of_bin:
            gap = np.mean([r["exact_match"] for r in of_bin]) - np.mean(
                [r["confidence"] for r in of_bin]
            )
            total += len(of_bin) / len(rows) * abs(gap)
    assert found["calibration_error"].value == pytest.approx(total)
    assert 0 < found["calibration_error"].standard_error < 0.5


def test_confidence_in_a_candidate_is_its_share(tmp_path):
    items = chosen()
    rows, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    for example, row in zip(items, rows, strict=True):
        shares = np.exp(row["choice_log_likelihoods"])
        shares /= shares.sum()
        assert row["choice_confidence"] == pytest.approx(shares.max())
        truth = [choice == example.answer for choice in example.choices]
        assert row["choice_brier"] == pytest.approx(((shares - truth) ** 2).sum())
        by_length = np.array(row["choice_log_likelihoods"]) / [len(c) for c in example.choices]
        assert row["choice_normalised"] == int(truth[int(by_length.argmax())])
    found = scores_by_name(scores)
    assert found["choice_brier"].value == pytest.approx(np.mean([r["choice_brier"] for r in rows]))
    # Dividing by the length decides otherwise somewhere, or the two could be confused.
    assert [row["choice"] for row in rows] != [row["choice_normalised"] for row in rows]


def test_reasoning_has_no_confidence_of_its_own(tmp_path):
    _, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, reasoned()))
    assert not {"brier", "calibration_error"} & scores_by_name(scores).keys()


def test_accuracy_by_level_of_each_property(tmp_path):
    items = chosen(strata=True)
    rows, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    found = {
        (score.score, score.stratum): score
        for score in scores
        if score.stratum is not None and score.split == "test"
    }
    levels = ["size = 0", "size = 1", "size = 2", "kind = seen", "kind = new"]
    names = ["choice", "exact_match", "teacher_forced"]
    assert set(found) == {(name, level) for name in names for level in levels}
    for (name, level), score in found.items():
        key, _, value = level.partition(" = ")
        members = [
            row[name]
            for row, item in zip(rows, items, strict=True)
            if dict(item.strata)[key] == value
        ]
        assert (score.value, score.count) == (np.mean(members), len(members))
    assert len({found["exact_match", level].value for level in levels}) > 1
    # Of the whole split there is one score of each name.
    whole = [s.score for s in scores if s.stratum is None and s.split == "test"]
    assert len(whole) == len(set(whole))


def test_a_property_with_one_level_is_the_split_itself(tmp_path):
    items = [Example(e.segments, strata=(("hops", "3"),)) for e in examples()]
    _, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    assert [score for score in scores if score.stratum] == []


def test_levels_stand_in_the_order_of_numbers(tmp_path):
    items = [
        Example(e.segments, strata=(("hops", str(10 - k)),)) for k, e in enumerate(examples(4))
    ]
    _, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    order = [score.stratum for score in scores if score.stratum and score.score == "exact_match"]
    assert order == ["hops = 7", "hops = 8", "hops = 9", "hops = 10"]


def test_the_share_of_each_solution(tmp_path):
    """Items whose reference answers are named: what was written, one more, both alike."""
    model = trained()
    plain, _ = Accuracy(train_items=0).measure(context_of(model, tmp_path))
    items = []
    for k, (row, example) in enumerate(zip(plain, examples(), strict=True)):
        written = row["prediction"] if row["stopped"] and row["prediction"] else "0"
        names = (("first", written), ("second", written + "1"))
        if k % 4 == 1:
            names = (("first", written + "1"), ("second", written))
        if k % 4 == 2:
            names = (("first", written), ("second", written))
        if k % 4 == 3:
            names = (("first", written + "1"), ("second", written + "2"))
        items.append(Example(example.segments, references=names))
    rows, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, items))
    stopped = [bool(row["stopped"]) for row in rows]
    expected = {"first": 0, "second": 0, "other": 0}
    for k, ended in enumerate(stopped):
        for name in ("first", "second"):
            answers = dict(items[k].references)
            hit = ended and answers[name] == rows[k]["prediction"]
            expected[name] += hit
        expected["other"] += not (ended and rows[k]["prediction"] in answers.values())
    found = {s.score: s for s in scores if s.score.startswith("solution") and s.split == "test"}
    assert list(found) == ["solution_first", "solution_second", "solution_other"]
    for name, count in expected.items():
        assert found[f"solution_{name}"].value == count / len(items)
        assert count > 0
        assert found[f"solution_{name}"].higher_is_better is None


@pytest.mark.parametrize("family", ["gpt2", "llama", "openai-gpt"])
@pytest.mark.parametrize("items", [examples(40), chosen(40), reasoned()], ids=["sums", "ch", "re"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.slow
def test_one_row_at_a_time_equals_64_at_once(family, items, side, tmp_path):
    """float32: same decisions, numbers within 1e-5; the tokenizer's padding side is no matter."""
    model = trained(family)
    results = []
    for tokens in (1, 64 * 16):
        context = context_of(model, tmp_path, items, batch_tokens=tokens)
        context.tokenizer.padding_side = side
        results.append(Accuracy().measure(context))
    decisions = 0
    for one, many in zip(*(rows for rows, _ in results), strict=True):
        assert one.keys() == many.keys()
        for key, value in one.items():
            if isinstance(value, float):
                assert value == pytest.approx(many[key], abs=1e-5), key
            elif key == "choice_log_likelihoods":
                np.testing.assert_allclose(value, many[key], atol=1e-5)
            else:
                decisions += 1
                assert value == many[key], key
    assert decisions > 20
    for one, many in zip(*(scores for _, scores in results), strict=True):
        assert one.value == pytest.approx(many.value, abs=1e-5), one.score
    TOKENIZER.padding_side = "right"


def test_judging_many_times_decides_as_the_measure_does(tmp_path):
    for items, key in ((examples(), "exact_match"), (chosen(), "choice")):
        model = trained()
        context = context_of(model, tmp_path, items)
        rows, _ = Accuracy(train_items=0).measure(context)
        judged = JudgedItems(context.splits["test"], TOKENIZER)
        found = judged.right(context.model, TokenBudget())
        assert found.astype(int).tolist() == [row[key] for row in rows]
        assert 0 < found.mean() < 1
        sizes = [len(item.choices) for item in items]
        assert judged.chance.tolist() == [0 if key == "exact_match" else 1 / n for n in sizes]


def test_the_right_answer_among_alike_ones_is_wrong(tmp_path):
    """A model whose logits are all alike chooses nothing."""
    model = build_model(ModelOptions(family="gpt2", layers=1, width=16, heads=2), TOKENIZER, 16, 0)
    torch.nn.init.zeros_(model.lm_head.weight)
    items = [Example(e.segments, choices=(e.answer, "9" * len(e.answer))) for e in examples(4)]
    rows, _ = Accuracy(train_items=0).measure(context_of(model.eval(), tmp_path, items))
    assert [row["choice"] for row in rows] == [0] * 4


@pytest.mark.parametrize("items", [examples(), chosen(), reasoned()], ids=["sums", "ch", "re"])
def test_without_the_prompts_loss_all_else_is_the_same(tmp_path, items):
    model = trained()
    full, scores = Accuracy(train_items=0).measure(context_of(model, tmp_path, items))
    short, fewer = Accuracy(train_items=0, prompt_loss=False).measure(
        context_of(model, tmp_path, items)
    )
    left_out = {"all_loss", "uncritical_loss"}
    assert {s.score for s in scores} - {s.score for s in fewer} == left_out
    for one, other in zip(full, short, strict=True):
        assert set(one) - set(other) == {
            f"{key}_{what}" for key in ("all", "uncritical") for what in ("loss_sum", "tokens")
        }
        for key, value in other.items():
            same = pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
            assert one[key] == same, key


def test_items_with_candidates_are_read_once(tmp_path):
    context = context_of(trained(), tmp_path, chosen(), batch_tokens=10_000)
    passes = []
    context.model.transformer.register_forward_hook(lambda m, i, output: passes.append(1))
    Accuracy(train_items=0, modes=["choices", "teacher_forced"]).measure(context)
    # One pass over all items, and the trial whether contexts can be shared (two items: together,
    # and each with each candidate).
    assert len(passes) <= 1 + 1 + 2 * 3


def test_a_solution_that_nobody_found_has_a_share_of_0(tmp_path):
    items = [
        Example(e.segments, references=(("never", "98"), ("seldom", "97"))) for e in examples()
    ]
    _, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    found = {
        s.score: s.value for s in scores if s.score.startswith("solution") and s.split == "test"
    }
    assert found == {"solution_never": 0, "solution_seldom": 0, "solution_other": 1}


def test_a_mode_that_no_item_allows_is_null_with_its_reason(tmp_path):
    context = context_of(trained(), tmp_path)
    _, scores = Accuracy(modes=["choices", "reasoning"], train_items=0).measure(context)
    found = scores_by_name(scores)
    assert found["choice"].value is None
    assert found["choice"].reason == "mode choices was asked for, but no item has choices"
    assert "no item has reasoning" in found["exact_match"].reason


def test_the_own_mode_is_the_first_by_stratum_too(tmp_path):
    items = [Example(e.segments, choices=e.choices, answer_marker=e.answer_marker,
                     strata=(("hops", str(k % 2)),)) for k, e in enumerate(reasoned())]  # fmt: skip
    _, scores = Accuracy(train_items=0).measure(context_of(trained(), tmp_path, items))
    assert next(s.score for s in scores if s.stratum) == "exact_match"


@pytest.mark.parametrize("items", [examples(), chosen(), reasoned()], ids=["sums", "ch", "re"])
def test_what_is_not_finite_is_neither_right_nor_wrong(tmp_path, items):
    model = trained()
    torch.nn.init.constant_(model.transformer.ln_f.weight, float("nan"))
    judged = JudgedItems(context_of(model, tmp_path, items).splits["test"], TOKENIZER)
    with pytest.raises(InputError, match="not finite: its weights are broken, or it is disturbed"):
        judged.right(model, TokenBudget())


def test_candidates_behind_the_reference_reasoning_judge_robustness(tmp_path):
    context = context_of(trained(), tmp_path, reasoned())
    judged = JudgedItems(context.splits["test"], TOKENIZER)
    assert judged.mode == "choices" and judged.chance.tolist() == [0.5] * 4
    rows, _ = Accuracy(train_items=0).measure(context)
    found = judged.right(context.model, TokenBudget()).astype(int).tolist()
    assert found == [row["choice"] for row in rows]
