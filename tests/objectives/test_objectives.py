"""Objectives: labels and weights written out by hand, and properties of what is drawn."""

from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.tokenize import EncodedExample, closed_tokenizer, encode
from ntpctp.measures.split import EncodedSplit
from ntpctp.objectives import (
    CTP,
    NTP,
    OBJECTIVES,
    Critical,
    ExampleObjective,
    Noisy,
    Partial,
    Random,
    Schedule,
    Selective,
    Shuffled,
    Supervision,
    Weighted,
    no_reference_losses,
)
from ntpctp.objectives.dataset import SupervisedExamples, num_supervised
from ntpctp.runner.audit import _different_weights
from ntpctp.runner.exclusions import supervised

# prompt prompt reasoning assistant answer answer
ROW = EncodedExample(np.arange(6), np.array([0, 0, 1, 3, 2, 2], np.uint8), 2)


def weights(objective, row=ROW, step=0):
    return SupervisedExamples([row], objective).at(0, step).weights.tolist()


def many(number=400, length=12, answer=3):
    generator = np.random.default_rng(0)
    roles = np.array([0] * (length - answer) + [2] * answer, np.uint8)
    return [
        EncodedExample(generator.integers(0, 9, length), roles, length - answer)
        for _ in range(number)
    ]


def supervise(objective, rows):
    return objective.supervise(rows, no_reference_losses)


@pytest.mark.parametrize(
    "objective, expected",
    [
        (NTP(), [1, 1, 1, 1, 1, 1]),
        (CTP(), [0, 0, 0, 0, 1, 1]),
        (CTP(roles=["answer", "reasoning"]), [0, 0, 1, 0, 1, 1]),
        (CTP(roles=["answer", "assistant"]), [0, 0, 0, 1, 1, 1]),
        (Weighted(prompt=0.25), [0.25, 0.25, 1, 1, 1, 1]),
        (Weighted(prompt=0.5, reasoning=0, answer=2, assistant=0.125), [0.5, 0.5, 0, 0.125, 2, 2]),
        (Partial(keep=0.0), [0, 0, 0, 0, 1, 1]),
        (Partial(keep=1.0), [1, 1, 1, 1, 1, 1]),
    ],
    ids=lambda value: str(value),
)
def test_weights_by_role(objective, expected):
    assert weights(objective) == expected


def test_every_objective_is_in_the_table_under_its_name():
    for name, objective in OBJECTIVES.items():
        assert objective.model_fields["name"].default == name
        assert (objective.__doc__ and "w_t" in objective.__doc__) or name in ("noisy", "schedule")


def test_partial_keeps_the_stated_share_and_always_the_answer():
    made = np.array([s.weights for s in supervise(Partial(keep=0.3), many())])
    assert (made[:, -3:] == 1).all()
    share = made[:, :-3].mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / made[:, :-3].size)
    assert len({tuple(row) for row in made}) > 100  # every row has its own draw


def test_random_supervises_as_many_tokens_as_ctp_anywhere_but_first():
    made = np.array([s.weights for s in supervise(Random(), many())])
    assert (made.sum(1) == 3).all() and not made[:, 0].any()
    share = made[:, 1:].mean(0)
    assert np.abs(share - 3 / 11).max() < 4 * np.sqrt(3 / 11 * 8 / 11 / 400)


@pytest.mark.parametrize("objective", [Partial, Random, Shuffled, Noisy])
def test_draws_depend_on_seed_and_row_alone(objective):
    options = {"keep": 0.5} if objective is Partial else {"rate": 0.5} if objective is Noisy else {}
    rows = many(50)
    first, again = (supervise(objective(**options), rows) for _ in range(2))
    head = supervise(objective(**options), rows[:1])
    other = supervise(objective(**options, seed=1), rows)
    same = [np.array_equal(a.weights, b.weights) for a, b in zip(first, again, strict=True)]
    assert all(same) and np.array_equal(first[0].weights, head[0].weights)
    differ = [
        not np.array_equal(a.weights, b.weights) or not np.array_equal(a.labels, b.labels)
        for a, b in zip(first, other, strict=True)
    ]
    assert sum(differ) > 40


def test_shuffled_permutes_uncritical_labels_and_nothing_else():
    rows = many()
    moved = 0
    for row, made in zip(rows, supervise(Shuffled(), rows), strict=True):
        assert made.labels[0] == row.input_ids[0]
        assert made.labels[-3:].tolist() == row.input_ids[-3:].tolist()
        assert sorted(made.labels[1:-3]) == sorted(row.input_ids[1:-3])
        assert (made.weights == 1).all()
        moved += not np.array_equal(made.labels, row.input_ids)
    assert moved > 390


@pytest.mark.parametrize("base", ["ctp", "ntp"])
def test_noisy_replaces_answer_labels_at_the_stated_rate(base):
    rows = many(2000)
    made = supervise(Noisy(rate=0.2, base=base), rows)
    labels, true = (np.array(x) for x in ([s.labels for s in made], [r.input_ids for r in rows]))
    assert (labels[:, :-3] == true[:, :-3]).all()  # the prompt
    assert (labels[:, -1] == true[:, -1]).all()  # the end of sequence
    wrong = labels[:, -3:-1] != true[:, -3:-1]
    assert abs(wrong.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / wrong.size)
    # Uniform over the eight other tokens of answers.
    shift = (labels[:, -3:-1] - true[:, -3:-1])[wrong] % 9
    counts = np.bincount(shift, minlength=9)[1:]
    assert np.abs(counts / counts.sum() - 1 / 8).max() < 0.06
    expected = [0.0] * 9 + [1.0] * 3 if base == "ctp" else [1.0] * 12
    assert made[0].weights.tolist() == expected


def test_noisy_needs_another_answer():
    rows = [EncodedExample(np.array([1, 2, 5, 0]), np.array([0, 0, 2, 2], np.uint8), 2)] * 3
    with pytest.raises(InputError, match="all answers are the same token"):
        supervise(Noisy(rate=0.5), rows)
    assert supervise(Noisy(rate=0.0), rows)[0].labels.tolist() == [1, 2, 5, 0]


TEXT = (Segment("prompt", "a12 b"), Segment("answer", " c3"))


def critical(objective, example=None, pieces="characters"):
    example = example or Example(TEXT)
    tokenizer = closed_tokenizer(["a12 b c3"], pieces)
    (row,) = encode([example], tokenizer)
    made = objective.supervise([row], no_reference_losses)[0].weights
    return "".join(
        row.text[slice(*place)] if place[0] < place[1] else "$"
        for place, weight in zip(row.offsets, made, strict=True)
        if weight == 1
    )


def test_critical_follows_the_pattern_through_the_whole_text():
    assert critical(Critical(pattern=r"\d+")) == "123$"  # the match ends the text: so does $
    assert critical(Critical(pattern=r"[ab]")) == "ab"
    assert critical(Critical(pattern=r"1"), pieces="words") == "a12"  # a token that overlaps


def test_critical_follows_spans_of_the_data():
    example = Example(TEXT, spans=((1, 3), (6, 7)))
    assert critical(Critical(spans=True), example) == "12c"
    assert critical(Critical(spans=True, pattern="b"), example) == "12bc"
    chat = Example(messages=(Message("user", "a"), Message("assistant", "c3")))
    tokenizer = closed_tokenizer(["ac3<>"], "characters")
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    (row,) = encode([chat], tokenizer)
    made = Critical(pattern="3").supervise([row], no_reference_losses)[0].weights
    assert row.text == "<a><c3>" and made.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_critical_else_weight_and_missing_offsets():
    made = weights(
        Critical(pattern="x", else_weight=0.5), EncodedExample(*_plain(), text="ab", offsets=_at())
    )
    assert made == [0.5, 0.5]
    with pytest.raises(InputError, match="needs the character offsets of tokens"):
        weights(Critical(pattern="x"), EncodedExample(*_plain(), text="ab"))


def _plain():
    return np.arange(2), np.array([0, 2], np.uint8), 1


def _at():
    return np.array([[0, 1], [1, 2]])


def test_selective_keeps_a_share_of_each_row():
    def losses_of(checkpoint, rows):
        assert checkpoint == "some/where"
        return [np.full(len(row), 0.5, np.float32) for row in rows]

    made = Selective(reference="some/where", fraction=0.6).supervise([ROW], losses_of)[0]
    assert made.num_kept == 3 == int(0.6 * 5)
    assert made.reference_losses.tolist() == [0.5] * 6
    assert Selective(reference="x", fraction=0.01).num_kept(6) == 1


def schedule(*phases, **options):
    return Schedule(
        phases=[dict(zip(("objective", "until"), p, strict=False)) for p in phases], **options
    )


def test_schedule_changes_at_the_stated_step():
    rule = schedule(("ntp", 2), ("ctp",))
    assert [sum(weights(rule, step=s)) for s in (0, 1, 2, 9)] == [6, 6, 2, 2]


def test_schedule_fades_linearly():
    rule = schedule(("ntp", 2), ("ctp",), fade=4)
    prompt = [weights(rule, step=s)[1] for s in range(8)]
    assert prompt == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert all(weights(rule, step=s)[-1] == 1 for s in range(8))


def test_finished_schedule_is_its_last_phase():
    rule = schedule(("ntp", 2), ({"name": "weighted", "prompt": 0.5},))
    assert rule.supervise([ROW], no_reference_losses)[0].weights[0] == 0.5


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedule(("ntp", 2), ("ctp", 5)), "every phase but the last needs until"),
        (lambda: schedule(("ntp",), ("ctp",)), "every phase but the last needs until"),
        (lambda: schedule(("ntp", 5), ("ctp", 5), ("ntp",)), "until must rise by more than fade"),
        (lambda: schedule(("ntp", 2), ("shuffled",), fade=2), "phases with the same labels"),
        (
            lambda: schedule(("ntp", 2), ("ctp",), normalisation="sequence"),
            "must have the schedule's own normalisation",
        ),
        (
            lambda: Weighted(prompt=0, reasoning=0, answer=0, assistant=0, text=0),
            "all weights are 0",
        ),
        (lambda: Critical(), "give a pattern, or spans: true"),
        (lambda: Critical(pattern="["), "not a regular expression"),
        (lambda: Partial(), "keep"),
        (lambda: CTP(roles=[]), "at least 1"),
    ],
)
def test_options_that_make_no_sense(make, message):
    with pytest.raises(ValidationError, match=message):
        make()


class EvenTokens(ExampleObjective):
    """Looks at token ids, which roles do not tell."""

    name: Literal["even_tokens"] = "even_tokens"

    def of_example(self, example):
        return Supervision(example.input_ids, (example.input_ids % 2 == 0).astype(np.float32))


def test_only_objectives_that_say_so_are_counted_by_roles():
    """Counts of an objective of one's own that looks at ids, against a plain loop."""
    rows = [EncodedExample(np.array(ids), ROW.roles, 2) for ids in ([1] * 6, [2] * 6, [*range(6)])]
    expected = [sum(i % 2 == 0 for i in row.input_ids.tolist()[1:]) for row in rows]
    assert expected == [0, 5, 2]
    objective = EvenTokens()
    assert num_supervised(objective, rows).tolist() == expected
    assert [w.tolist() for w, _ in _different_weights(objective, rows)] == [
        [0] * 6,
        [0, 1, 1, 1, 1, 1],
        [0, 0, 1, 0, 1, 0],
    ]
    split = EncodedSplit([Example((Segment("prompt", "p"), Segment("answer", "a")))] * 3, rows)
    arm = SimpleNamespace(objective=objective)
    kept, dropped = supervised(split, "own", arm, "drop")
    assert dropped == 1 and [row.input_ids[0] for row in kept.encoded] == [2, 0]


def test_what_is_counted_by_roles_ignores_token_ids():
    counted = [kind for kind in OBJECTIVES.values() if kind.by_roles]
    assert counted == [NTP, CTP, Weighted]
    other = EncodedExample(ROW.input_ids[::-1].copy(), ROW.roles, 2)
    for kind in counted:
        assert weights(kind(), other) == weights(kind())
