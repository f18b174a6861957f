"""Accuracy under edits, and contrast sets, against edits and readings made one by one."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ntpctp.errors import InputError
from ntpctp.measures import Contrast, EncodedSplit, InputEdits, Subject
from ntpctp.models import ModelOptions, build
from ntpctp.objectives import CTP
from ntpctp.randomness import generator
from ntpctp.tasks import TASKS, Example, Segment
from ntpctp.tokens import closed_tokenizer, encode


def subject_of(tmp_path, name, family="gpt2", context=None, **options):
    """A random model whose head is strong enough that small edits turn its choice around."""
    task = TASKS[name].model_validate({"name": name, "train_size": 40, "test_size": 12, **options})
    splits = task.all_splits()
    texts = [s.text for items in splits.values() for e in items for s in e.segments]
    texts += [choice for items in splits.values() for e in items for choice in e.choices]
    tokenizer = closed_tokenizer(texts, task.pieces)
    encoded = {
        name: EncodedSplit(items, encode(items, tokenizer)) for name, items in splits.items()
    }
    longest = max(len(row) for split in encoded.values() for row in split.rows)
    model = build(
        ModelOptions(family=family, layers=1, width=16, heads=2, context=context or longest + 40),
        tokenizer,
        min(longest, context or longest),
        seed=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.5)
    model.save_pretrained(tmp_path)
    return Subject(tmp_path, tokenizer, encoded, ("test",), CTP(), task=task)


def is_right(subject, example):
    """By the model's own logits, one candidate or answer at a time."""
    ids = encode([example], subject.tokenizer, allow_unknown=True)[0]
    given, answer = ids.input_ids[: ids.answer_start], ids.input_ids[ids.answer_start :]

    def logs_of(tokens):
        row = torch.tensor([[*given, *tokens]])
        with torch.no_grad():
            return subject.model(row).logits[0, len(given) - 1 : -1].double().log_softmax(-1)

    if not example.choices:
        return bool((logs_of(answer).argmax(-1).numpy() == answer).all())
    sums = []
    for choice in example.choices:
        tokens = subject.tokenizer(choice, add_special_tokens=False).input_ids
        tokens = [*tokens, subject.tokenizer.eos_token_id]
        logs = logs_of(tokens)
        sums.append(sum(float(logs[k, token]) for k, token in enumerate(tokens)))
    return int(np.argmax(sums)) == example.choices.index(example.answer)


CASES = [
    ("prontoqa", {}, ["premise_order", "renaming", "irrelevant_facts", "typos"]),
    ("simple_logic", {}, ["premise_order"]),
]


@pytest.mark.parametrize("name, options, edits", CASES, ids=[name for name, _, _ in CASES])
def test_every_item_is_edited_and_judged_as_by_hand(tmp_path, name, options, edits):
    subject = subject_of(tmp_path, name, **options)
    rows, scores = InputEdits(edits=edits, draws=2, seed=5, max_items=6).measure(subject)
    known, items = subject.task.edits("test"), subject.splits["test"].examples[:6]
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
                        right.append(is_right(subject, edited.example))
                key = f"accuracy_under_{edit}_{strength:g}"
                assert (key in row) == bool(right)
                if right:
                    assert row[key] == np.mean(right), (key, place)
                    assert row[f"worst_of_draws_under_{edit}_{strength:g}"] == min(right)
                    shares.append(np.mean(right))
                    changed += strength > 0 and np.mean(right) != is_right(subject, example)
            (found,) = (
                s for s in scores if (s.score, s.strength) == (f"accuracy_under_{edit}", strength)
            )
            assert (found.value, found.count) == (pytest.approx(np.mean(shares)), len(shares))
    assert changed


def test_all_edits_that_keep_the_answer_by_default(tmp_path):
    subject = subject_of(tmp_path, "prosqa")
    _, scores = InputEdits(draws=1, max_items=3).measure(subject)
    names = {s.score for s in scores if s.score.startswith("area_")}
    known = subject.task.edits("test")
    assert names == {f"area_{name}" for name, edit in known.items() if edit.keeps_answer}
    assert len(names) > 4 and "contrast" in known


def test_stated_strengths(tmp_path):
    subject = subject_of(tmp_path, "prontoqa")
    measure = InputEdits(edits=["premise_order"], strengths={"premise_order": [0.0, 0.9]}, draws=1)
    _, scores = measure.measure(subject)
    assert [s.strength for s in scores if s.score == "accuracy_under_premise_order"] == [0.0, 0.9]


def test_what_the_tokenizer_makes_of_an_edit_is_told(tmp_path):
    """A vocabulary of words drops white space and knows no misspelt word."""
    subject = subject_of(tmp_path, "prontoqa")
    rows, scores = InputEdits(edits=["white_space", "typos"], draws=2, max_items=5).measure(subject)
    found = {(s.score, s.strength): s for s in scores}
    for strength in subject.task.edits("test")["white_space"].strengths[1:]:
        score = found["unchanged_under_white_space", strength]
        assert (score.value, score.count, score.higher_is_better) == (1.0, 10, None)
    assert found["unknown_words_under_typos", 0.4].value > 0.9
    assert not any(name == "unknown_words_under_white_space" for name, _ in found)
    for row in rows:
        assert row["accuracy_under_white_space_1"] == row["accuracy_under_white_space_0"]
        assert row["flip_rate_under_white_space_1"] == 0


def test_what_is_longer_than_the_context_is_left_out_and_counted(tmp_path):
    subject = subject_of(tmp_path, "prontoqa")
    long = InputEdits(edits=["irrelevant_facts"], draws=1).measure(subject)[1]
    lengths = [len(row) for row in subject.splits["test"].rows]
    short = subject_of(tmp_path / "short", "prontoqa", context=max(lengths))
    rows, scores = InputEdits(edits=["irrelevant_facts"], draws=1).measure(short)
    counts = {s.strength: s.count for s in scores if s.score == "accuracy_under_irrelevant_facts"}
    of_long = {s.strength: s.count for s in long if s.score == "accuracy_under_irrelevant_facts"}
    assert counts[0.0] == of_long[0.0] == len(lengths)
    last = max(counts)
    assert of_long[last] == len(lengths) and counts[last] < len(lengths)
    left_out = [row for row in rows if f"accuracy_under_irrelevant_facts_{last:g}" not in row]
    assert len(left_out) == len(lengths) - counts[last]


def test_the_same_edits_whatever_the_batch_other_ones_with_another_seed(tmp_path):
    subject = subject_of(tmp_path, "prontoqa")
    measure = InputEdits(edits=["renaming"], draws=3)
    many, _ = measure.measure(subject)
    one, _ = measure.measure(replace(subject, batch_tokens=1))
    assert one == many
    other, _ = InputEdits(edits=["renaming"], draws=3, seed=1).measure(subject)
    assert other != many


def test_an_edit_that_the_task_does_not_have(tmp_path, tiny):
    from ntpctp.preparation import prepare

    subject = subject_of(tmp_path, "prontoqa")
    message = r"unknown edit of the split test 'renamings'; did you mean 'renaming'\?"
    with pytest.raises(InputError, match=message):
        InputEdits(edits=["renamings"]).measure(subject)
    # Before anything is trained.
    block = {"name": "edits", "strengths": {"typos": [0.0, 0.1]}}
    experiment = tiny(evaluation={"measures": ["accuracy", block]})
    with pytest.raises(InputError, match="unknown edit of the split test 'typos'"):
        prepare(experiment)
    with pytest.raises(ValidationError, match="rising strengths that start with 0"):
        InputEdits(strengths={"typos": [0.1, 0.2]})


@pytest.mark.parametrize("measure", [InputEdits(), Contrast()], ids=lambda m: m.name)
def test_a_subject_without_a_task(tmp_path, measure):
    subject = replace(subject_of(tmp_path, "prontoqa"), task=None)
    with pytest.raises(InputError, match="name the task that they come from"):
        measure.measure(subject)


def test_a_task_without_such_edits_is_null_with_its_reason(tmp_path):
    subject = subject_of(tmp_path, "prontoqa")

    class Bare(type(subject.task)):
        def _edits(self, split):
            return {}

    bare = replace(subject, task=Bare(name="prontoqa", train_size=40, test_size=12))
    (score,) = InputEdits().measure(bare)[1]
    assert score.value is None and "no edit of such examples" in score.reason
    scores = Contrast().measure(bare)[1]
    assert len(scores) == 4
    assert all(s.value is None and "no edit that changes the answer" in s.reason for s in scores)


@pytest.mark.parametrize("name", ["prontoqa", "addition"])
def test_contrast_pairs_are_judged_as_by_hand(tmp_path, name):
    subject = subject_of(tmp_path, name)
    rows, scores = Contrast(draws=2, seed=3).measure(subject)
    (edit,) = (e for e in subject.task.edits("test").values() if not e.keeps_answer)
    both, before, after, followed = [], [], [], []
    for place, example in enumerate(subject.splits["test"].examples):
        right = []
        for draw in range(2):
            edited = edit.apply(example, 1, generator(3, "edits", draw, place))
            if edited is not None:
                assert edited.example.answer != example.answer
                right.append(is_right(subject, edited.example))
        if not right:
            continue
        first = is_right(subject, example)
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
    subject = subject_of(tmp_path, "addition")
    wrong = [
        Example((e.segments[0], Segment("answer", "99"))) for e in subject.splits["test"].examples
    ]
    subject.splits["test"] = EncodedSplit(wrong, encode(wrong, subject.tokenizer))
    found = {s.score: s for s in Contrast().measure(subject)[1]}
    if found["contrast_original"].value == 0:
        assert found["contrast_followed"].value is None
        assert found["contrast_followed"].reason == "no original is answered rightly"
