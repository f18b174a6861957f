"""Accuracy under edits, and contrast sets, against edits and readings made one by one."""

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks import TASKS
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit, Edited, prompt_of, with_prompt
from ntpctp.data.tokenize import closed_tokenizer, encode
from ntpctp.measures import Accuracy, Contrast, EncodedSplit, InputEdits
from ntpctp.measures.computation.edited import edit_items
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.models.build import build_model
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP


def context_of(tmp_path, name, family="gpt2", max_length=None, **options):
    """A random model whose head is strong enough that small edits turn its choice around."""
    sizes = {"train_size": 40, "test_size": 12}
    known = {key: size for key, size in sizes.items() if key in TASKS[name].model_fields}
    task = TASKS[name].model_validate({"name": name, **known, **options})
    splits = task.all_splits()
    texts = [s.text for items in splits.values() for e in items for s in e.segments]
    texts += [choice for items in splits.values() for e in items for choice in e.choices]
    tokenizer = closed_tokenizer(texts, task.pieces)
    encoded = {
        name: EncodedSplit(items, encode(items, tokenizer)) for name, items in splits.items()
    }
    longest = max(len(row) for split in encoded.values() for row in split.encoded)
    size = max_length or longest + 40
    model = build_model(
        ModelOptions(family=family, layers=1, width=16, heads=2, context=size),
        tokenizer,
        min(longest, max_length or longest),
        seed=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.5)
    model.save_pretrained(tmp_path)
    return EvaluationContext(
        source=tmp_path,
        tokenizer=tokenizer,
        splits=encoded,
        evaluation_splits=("test",),
        objective=CTP(),
        task=task,
    )


def is_right(context, example):
    """By the model's own logits, one candidate or answer at a time."""
    ids = encode([example], context.tokenizer, allow_unknown=True)[0]
    given, answer = ids.input_ids[: ids.answer_start], ids.input_ids[ids.answer_start :]

    def logs_of(tokens):
        row = torch.tensor([[*given, *tokens]])
        with torch.no_grad():
            return context.model(row).logits[0, len(given) - 1 : -1].double().log_softmax(-1)

    if not example.choices:
        return bool((logs_of(answer).argmax(-1).numpy() == answer).all())
    sums = []
    for choice in example.choices:
        tokens = context.tokenizer(choice, add_special_tokens=False).input_ids
        tokens = [*tokens, context.tokenizer.eos_token_id]
        logs = logs_of(tokens)
        sums.append(sum(float(logs[k, token]) for k, token in enumerate(tokens)))
    return int(np.argmax(sums)) == example.choices.index(example.answer)


CASES = [
    ("prontoqa", {}, ["premise_order", "renaming", "irrelevant_facts", "typos"]),
    ("simple_logic", {}, ["premise_order"]),
]


@pytest.mark.parametrize("name, options, edits", CASES, ids=[name for name, _, _ in CASES])
def test_every_item_is_edited_and_judged_as_by_hand(tmp_path, name, options, edits):
    context = context_of(tmp_path, name, **options)
    rows, scores = InputEdits(edits=edits, draws=2, seed=5, max_items=6).measure(context)
    known, items = context.task.edits("test"), context.splits["test"].examples[:6]
    changed = 0
    for edit in edits:
        for strength in known[edit].strengths:
            shares = []
            for place, (row, example) in enumerate(zip(rows, items, strict=True)):
                right = []
                for draw in range(2):
                    rng = generator(5, "edits", zlib.crc32(edit.encode()), draw, place)
                    edited = known[edit].apply(example, strength, rng)
                    if edited is not None:
                        right.append(is_right(context, edited.example))
                key = f"accuracy_under_{edit}_{strength:g}"
                assert (key in row) == bool(right)
                if right:
                    assert row[key] == np.mean(right), (key, place)
                    assert row[f"worst_of_draws_under_{edit}_{strength:g}"] == min(right)
                    shares.append(np.mean(right))
                    changed += strength > 0 and np.mean(right) != is_right(context, example)
            (found,) = (
                s for s in scores if (s.score, s.strength) == (f"accuracy_under_{edit}", strength)
            )
            assert (found.value, found.count) == (pytest.approx(np.mean(shares)), len(shares))
    assert changed


def test_all_edits_that_keep_the_answer_by_default(tmp_path):
    context = context_of(tmp_path, "prosqa")
    _, scores = InputEdits(draws=1, max_items=3).measure(context)
    names = {s.score for s in scores if s.score.startswith("area_")}
    known = context.task.edits("test")
    assert names == {f"area_{name}" for name, edit in known.items() if edit.keeps_answer}
    assert len(names) > 4 and "contrast" in known


def test_stated_strengths(tmp_path):
    context = context_of(tmp_path, "prontoqa")
    measure = InputEdits(edits=["premise_order"], strengths={"premise_order": [0.0, 0.9]}, draws=1)
    _, scores = measure.measure(context)
    assert [s.strength for s in scores if s.score == "accuracy_under_premise_order"] == [0.0, 0.9]


def test_what_the_tokenizer_makes_of_an_edit_is_told(tmp_path):
    """A vocabulary of words drops white space and knows no misspelt word."""
    context = context_of(tmp_path, "prontoqa")
    rows, scores = InputEdits(edits=["white_space", "typos"], draws=2, max_items=5).measure(context)
    found = {(s.score, s.strength): s for s in scores}
    for strength in context.task.edits("test")["white_space"].strengths[1:]:
        score = found["unchanged_under_white_space", strength]
        assert (score.value, score.count, score.higher_is_better) == (1.0, 5, None)
    assert found["unknown_words_under_typos", 0.4].value > 0.9
    assert not any(name == "unknown_words_under_white_space" for name, _ in found)
    # A mean over draws, then items, of which the rows keep the former.
    words = found["unknown_words_under_typos", 0.1]
    of_items = [row[words.rows_key] for row in rows]
    assert (words.count, words.unit) == (5, "share of edited items")
    assert words.value == pytest.approx(np.mean(of_items))
    assert words.standard_error == pytest.approx(np.std(of_items, ddof=1) / 5**0.5)
    for row in rows:
        assert row["accuracy_under_white_space_1"] == row["accuracy_under_white_space_0"]
        assert row["flip_rate_under_white_space_1"] == 0


def test_what_is_longer_than_the_context_is_left_out_and_counted(tmp_path):
    context = context_of(tmp_path, "prontoqa")
    long = InputEdits(edits=["irrelevant_facts"], draws=1).measure(context)[1]
    lengths = [len(row) for row in context.splits["test"].encoded]
    short = context_of(tmp_path / "short", "prontoqa", max_length=max(lengths))
    rows, scores = InputEdits(edits=["irrelevant_facts"], draws=1).measure(short)
    counts = {s.strength: s.count for s in scores if s.score == "accuracy_under_irrelevant_facts"}
    of_long = {s.strength: s.count for s in long if s.score == "accuracy_under_irrelevant_facts"}
    assert counts[0.0] == of_long[0.0] == len(lengths)
    last = max(counts)
    assert of_long[last] == len(lengths) and counts[last] < len(lengths)
    left_out = [row for row in rows if f"accuracy_under_irrelevant_facts_{last:g}" not in row]
    assert len(left_out) == len(lengths) - counts[last]
    told = {(s.score, s.strength): s for s in scores}
    for strength in list(counts)[1:]:
        share = 1 - counts[strength] / len(lengths)
        for name in ("left_out_under_irrelevant_facts", "too_long_under_irrelevant_facts"):
            score = told[name, strength]
            assert (score.value, score.count) == (pytest.approx(share), len(lengths))
            assert score.value == pytest.approx(np.mean([row[score.rows_key] for row in rows]))
    names = {s.score for s in scores}
    assert "trained_on_under_irrelevant_facts" not in names
    assert not any(name.startswith("left_out") for name in {s.score for s in long})


def test_a_candidate_that_is_longer_than_the_context_counts_too(tmp_path):
    """The right answer still fits after the edit, the longest candidate does not."""
    prompt, max_length = "is the sky blue ? ", 18 + len("certainly") + 1
    context = chosen_context(tmp_path, [(prompt, "no", ("no", "certainly"))], max_length)
    long = edit_items(context, context.splits["test"], doubling(), 1, (0, 0))
    assert list(long.left_out) == ["too_long"]
    assert np.isnan(long.right(context, "choices")).all()
    short = chosen_context(tmp_path, [(prompt, "no", ("no", "yes"))], max_length)
    assert list(edit_items(short, short.splits["test"], doubling(), 1, (0, 0)).left_out) == [""]


def chosen_context(tmp_path, items, max_length):
    """A model of letters, to which each item is a prompt, an answer and choices."""
    examples = [
        Example((Segment("prompt", prompt), Segment("answer", answer)), choices=choices)
        for prompt, answer, choices in items
    ]
    tokenizer = closed_tokenizer(["abcdefghijklmnopqrstuvwxyz ?\n"], "characters")
    split = EncodedSplit(examples, encode(examples, tokenizer))
    options = ModelOptions(family="gpt2", layers=1, width=16, heads=2, context=max_length)
    build_model(options, tokenizer, max_length, 0).save_pretrained(tmp_path)
    nothing = EncodedSplit([], [])
    return EvaluationContext(
        source=tmp_path,
        tokenizer=tokenizer,
        splits={"train": nothing, "test": split},
        evaluation_splits=("test",),
        objective=CTP(),
    )


def doubling():
    """Twice the spaces: four more characters."""
    return Edit(
        "doubled", "share", (0, 1), True,
        lambda example, strength, rng: Edited(
            with_prompt(example, prompt_of(example).replace(" ", "  "))
        ),
    )  # fmt: skip


def test_what_fits_does_not_depend_on_the_arm(tmp_path):
    """An arm of a larger context leaves out what does not fit the smallest."""
    context = context_of(tmp_path, "prontoqa")
    lengths = [len(row) for row in context.splits["test"].encoded]
    short = context_of(tmp_path / "short", "prontoqa", max_length=max(lengths))
    measure = InputEdits(edits=["irrelevant_facts"], draws=2)
    fits = [
        [sorted(row) for row in measure.measure(replace(one, max_length=max(lengths)))[0]]
        for one in (context, short)
    ]
    assert fits[0] == fits[1]
    assert fits[0] != [sorted(row) for row in measure.measure(context)[0]]


def test_the_context_of_an_experiment_is_the_smallest_of_its_arms(tiny, tmp_path):
    """That of a model that is made to fit the data is not stated anywhere."""
    from ntpctp.runner.evaluate import ResultsLocation
    from ntpctp.runner.prepare import prepare

    arms = {"short": {"objective": "ctp"}, "long": {"objective": "ctp", "model": {"context": 64}}}
    data = prepare(tiny(arms=arms))
    assert data.context == -(-data.longest // 8) * 8 < 64
    # Edited items are judged anew where another context is shared, and nothing else is.
    keys = [
        [
            ResultsLocation(tmp_path, "a", "b", length).key(CTP(), m)
            for m in (InputEdits(), Accuracy())
        ]
        for length in (8, 64)
    ]
    assert keys[0][0] != keys[1][0] and keys[0][1] == keys[1][1]


@pytest.mark.parametrize(
    "name, options", [("modular", {"modulus": 11}), ("parity", {"relevant": 3, "bits": 6})]
)
def test_training_examples_are_left_out_and_counted(tmp_path, name, options):
    """Of these tasks, many an edited item is one that a model may have memorised."""
    context = context_of(tmp_path, name, **options)
    trained = {example.key for example in context.splits["train"].examples}
    known = context.task.edits("test")
    rows, scores = InputEdits(draws=2, seed=1).measure(context)
    told, seen = {(s.score, s.strength): s for s in scores}, 0
    for edit in (edit for edit in known if known[edit].keeps_answer):
        for strength in known[edit].strengths[1:]:
            shares = []
            for place, (row, example) in enumerate(
                zip(rows, context.splits["test"].examples, strict=True)
            ):
                streams = [(1, "edits", zlib.crc32(edit.encode()), d, place) for d in range(2)]
                edited = [known[edit].apply(example, strength, generator(*s)) for s in streams]
                keys = [one.example.key for one in edited if one is not None]
                shares.append(np.mean([e is not None and e.example.key in trained for e in edited]))
                kept = any(key not in trained for key in keys)
                assert (f"accuracy_under_{edit}_{strength:g}" in row) == kept
            seen += sum(shares)
            if f"trained_on_under_{edit}" in {s for s, _ in told}:
                score = told[f"trained_on_under_{edit}", strength]
                assert score.value == pytest.approx(np.mean(shares))
                assert told[f"left_out_under_{edit}", strength].value >= score.value
            else:
                assert not any(shares)
    pairs, of_pairs = Contrast(seed=1).measure(context)
    (edit,) = (e for e in known.values() if not e.keeps_answer)
    for place, example in enumerate(context.splits["test"].examples):
        edited = edit.apply(example, 1, generator(1, "edits", 0, place))
        kept = edited is not None and edited.example.key not in trained
        assert ("contrast_consistency" in pairs[place], pairs[place]["contrast_pairs"]) == (
            kept,
            int(kept),
        )
        seen += edited is not None and not kept
    (share,) = (s for s in of_pairs if s.score == "contrast_pairs")
    assert share.value == pytest.approx(np.mean([row["contrast_pairs"] for row in pairs]))
    assert 0 < share.value < 1 and share.rows_key == "contrast_pairs"
    assert seen > 2


def test_arms_of_an_experiment_leave_out_the_same_items(tiny_file, ntpctp, tmp_path):
    edits = {"name": "edits", "edits": ["irrelevant_facts"], "draws": 1, "max_items": 8}
    path = tiny_file(
        task={"name": "prontoqa", "train_size": 20, "test_size": 8},
        training={"steps": 1, "batch_size": 4, "learning_rate": 1e-3},
        arms={
            "short": {"objective": "ctp"},
            "long": {"objective": "ctp", "model": {"context": 512}},
        },
        seeds=1,
        evaluation={"every": 1, "measures": [edits]},
    )
    outcome = ntpctp("run", path, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    frame = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    judged = frame[frame["score"] == "accuracy_under_irrelevant_facts"]
    counts = {
        arm: of_arm.set_index(["step", "split", "strength"])["count"].to_dict()
        for arm, of_arm in judged.groupby("arm")
    }
    assert counts["short"] == counts["long"]
    assert "too_long_under_irrelevant_facts" in set(frame["score"])


class MadeUp(Task):
    """A task whose examples can be edited as a test says, the answer kept or not."""

    name: str = "made_up"
    change: Callable

    @property
    def evaluation_splits(self):
        return ("test",)

    def split(self, name):
        return ()

    def _edits(self, split):
        keeps = Edit("made up", "share", (0, 1), True, self.change)
        return {"made_up": keeps, "contrast": replace(keeps, keeps_answer=False)}


def test_reasons_name_the_causes(tmp_path):
    """Where all items are left out, and each for a cause of its own."""
    items = [(f"is the {what} blue ? ", "no", ("no", "yes")) for what in ("sky", "sea", "sun")]
    context = chosen_context(tmp_path, items, max_length=24)
    first, second, _ = context.splits["test"].examples

    def change(example, strength, rng):
        if example is first:
            return None
        return Edited(with_prompt(example, "to be" if example is second else "a " * 20))

    trained = [Example((Segment("prompt", "to be"), Segment("answer", "no")))]
    splits = {**context.splits, "train": EncodedSplit(trained, encode(trained, context.tokenizer))}
    context = replace(context, splits=splits, task=MadeUp(change=change))
    found = {(s.score, s.strength): s for s in InputEdits(draws=2).measure(context)[1]}
    causes = (
        "of 6 edits of an item 2 cannot be made, 2 make a training example of it, 2 make it longer "
        "than the context"
    )
    at_one = f"no item could be disturbed at strength 1: {causes}"
    assert found["accuracy_under_made_up", 1].reason == at_one
    for name in ("area_made_up", "half_strength_made_up"):
        reason = f"no item could be disturbed at every strength: {causes}"
        assert found[name, None].reason == reason
    assert found["left_out_under_made_up", 1].value == 1
    for name in ("too_long", "trained_on"):
        assert found[f"{name}_under_made_up", 1].value == pytest.approx(1 / 3)
    of_pairs = {s.score: s for s in Contrast(draws=2).measure(context)[1]}
    assert of_pairs.pop("contrast_pairs").value == 0
    assert {s.reason for s in of_pairs.values()} == {f"no item has a pair: {causes}"}


def test_edited_items_are_judged_as_their_originals(tmp_path):
    """Of two items one has candidates: both by teacher forcing, the edited one alone too."""
    items = [("is the sky blue ? ", "no", ("no", "yes")), ("is it ? ", "so", ())]
    context = chosen_context(tmp_path, items, max_length=40)
    split = context.splits["test"]
    assert JudgedItems(split, context.tokenizer).mode == "teacher_forced"
    modes = []

    class Told(JudgedItems):
        def right(self, *arguments):
            modes.append((len(self), self.mode))
            return super().right(*arguments)

    def change(example, strength, rng):
        return Edited(example) if example.choices else None

    context = replace(context, task=MadeUp(change=change))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("edited", "input_edits", "contrast"):
            patch.setattr(f"ntpctp.measures.computation.{module}.JudgedItems", Told)
        InputEdits(draws=1).measure(context)
        Contrast().measure(context)
    assert modes == [(2, "teacher_forced"), (1, "teacher_forced")] * 2


@pytest.mark.parametrize(
    "edit, strengths, message",
    [
        ("premise_order", [0, 1.5], r"strengths.premise_order: .* number from 0 to 1, found 1.5"),
        ("irrelevant_facts", [0, 1.5], "irrelevant_facts: .* a whole number from 0, found 1.5"),
        ("irrelevant_facts", [0, np.inf], r"irrelevant_facts.1: expected a finite"),
    ],
)
def test_strengths_that_an_edit_does_not_have_are_refused_before_training(
    tiny, edit, strengths, message
):
    from ntpctp.runner.prepare import prepare

    block = {"name": "edits", "strengths": {edit: strengths}}
    task = {"name": "prontoqa", "train_size": 20, "test_size": 5}
    with pytest.raises(InputError, match=message):
        prepare(tiny(task=task, evaluation={"measures": [block]}))


def test_the_same_edits_whatever_the_batch_other_ones_with_another_seed(tmp_path):
    context = context_of(tmp_path, "prontoqa")
    measure = InputEdits(edits=["renaming"], draws=3)
    many, _ = measure.measure(context)
    one, _ = measure.measure(replace(context, batch_tokens=1))
    assert one == many
    other, _ = InputEdits(edits=["renaming"], draws=3, seed=1).measure(context)
    assert other != many


def test_an_edit_that_the_task_does_not_have(tmp_path, tiny):
    from ntpctp.runner.prepare import prepare

    context = context_of(tmp_path, "prontoqa")
    message = r"unknown edit of the split test 'renamings'; did you mean 'renaming'\?"
    with pytest.raises(InputError, match=message):
        InputEdits(edits=["renamings"]).measure(context)
    # Before anything is trained.
    block = {"name": "edits", "strengths": {"typos": [0.0, 0.1]}}
    experiment = tiny(evaluation={"measures": ["accuracy", block]})
    with pytest.raises(InputError, match="unknown edit of the split test 'typos'"):
        prepare(experiment)
    with pytest.raises(ValidationError, match="rising strengths that start with 0"):
        InputEdits(strengths={"typos": [0.1, 0.2]})


@pytest.mark.parametrize("measure", [InputEdits(), Contrast()], ids=lambda m: m.name)
def test_a_subject_without_a_task(tmp_path, measure):
    context = replace(context_of(tmp_path, "prontoqa"), task=None)
    with pytest.raises(InputError, match="name the task"):
        measure.measure(context)


def test_a_task_without_such_edits_is_null_with_its_reason(tmp_path):
    context = context_of(tmp_path, "prontoqa")

    class Bare(type(context.task)):
        def _edits(self, split):
            return {}

    bare = replace(context, task=Bare(name="prontoqa", train_size=40, test_size=12))
    (score,) = InputEdits().measure(bare)[1]
    assert score.value is None and "no edit of such examples" in score.reason
    scores = Contrast().measure(bare)[1]
    assert len(scores) == 5
    assert all(s.value is None and "no edit that changes the answer" in s.reason for s in scores)


@pytest.mark.parametrize("name", ["prontoqa", "addition"])
def test_contrast_pairs_are_judged_as_by_hand(tmp_path, name):
    context = context_of(tmp_path, name)
    rows, scores = Contrast(draws=2, seed=3).measure(context)
    (edit,) = (e for e in context.task.edits("test").values() if not e.keeps_answer)
    both, before, after, followed = [], [], [], []
    for place, example in enumerate(context.splits["test"].examples):
        right = []
        for draw in range(2):
            edited = edit.apply(example, 1, generator(3, "edits", draw, place))
            if edited is not None:
                assert edited.example.answer != example.answer
                right.append(is_right(context, edited.example))
        if not right:
            continue
        first = is_right(context, example)
        before.append(first)
        after.append(np.mean(right))
        both.append(first * np.mean(right))
        followed += [np.mean(right)] if first else []
        assert rows[place]["contrast_consistency"] == both[-1]
    found = {s.score: s for s in scores}
    for key, values in (("original", before), ("edited", after), ("consistency", both)):
        assert found[f"contrast_{key}"].value == pytest.approx(np.mean(values))
        assert found[f"contrast_{key}"].count == len(values) > 5
    if followed:
        assert found["contrast_followed"].value == pytest.approx(np.mean(followed))
    else:
        assert found["contrast_followed"].reason == "no original is answered rightly"


def test_nothing_followed_where_nothing_is_right(tmp_path):
    context = context_of(tmp_path, "addition")
    wrong = [
        Example((e.segments[0], Segment("answer", "99"))) for e in context.splits["test"].examples
    ]
    context.splits["test"] = EncodedSplit(wrong, encode(wrong, context.tokenizer))
    found = {s.score: s for s in Contrast().measure(context)[1]}
    if found["contrast_original"].value == 0:
        assert found["contrast_followed"].value is None
        assert found["contrast_followed"].reason == "no original is answered rightly"


def test_where_no_item_can_be_edited_at_all(tmp_path):
    """No word is long enough to mistype: nulls with their reason, not a crash."""
    items = [("is a b ", "no", ("no", "yes")), ("is a c ", "no", ("no", "yes"))]
    context = replace(chosen_context(tmp_path, items, 24), task=TASKS["jsonl"](path="unread"))
    _, scores = InputEdits(edits=["typos"], draws=1).measure(context)
    found = {(s.score, s.strength): s for s in scores}
    assert found["accuracy_under_typos", 0.0].count == 2
    missing = found["accuracy_under_typos", 0.4]
    assert missing.value is None and "2 cannot be made" in missing.reason
    assert found["area_typos", None].value is None
