"""Streams of generated splits, and the hash that keeps train and test apart."""

import pytest

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.synthetic.drawing import Computed, draw_split, is_for_test


def numbers(limit):
    return lambda rng: Example(
        (Segment("prompt", str(rng.integers(limit))), Segment("answer", "x"))
    )


def prompts(size, split, for_test, seed=0, limit=10**9):
    examples = draw_split(numbers(limit), size, seed, "t", split, for_test)
    return [example.text("prompt") for example in examples]


def test_a_fifth_of_all_prompts_is_for_testing():
    share = sum(is_for_test(str(k)) for k in range(10_000)) / 10_000
    assert abs(share - 0.2) < 4 * (0.16 / 10_000) ** 0.5


def test_train_and_test_never_meet_even_in_a_small_world():
    train, test = (prompts(300, name, name == "test", limit=50) for name in ("train", "test"))
    assert len(set(train)) > 20 and len(set(test)) > 5
    assert not set(train) & set(test)


def test_a_split_grows_at_its_end():
    assert prompts(20, "train", False)[:10] == prompts(10, "train", False)


def test_seed_and_split_choose_the_stream():
    base = set(prompts(50, "a", False))
    assert not base & set(prompts(50, "b", False))
    assert not base & set(prompts(50, "a", False, seed=1))


def test_streams_of_neighbouring_seeds_are_not_shifted_copies():
    assert not set(prompts(50, "a", False, seed=0)[1:]) & set(prompts(50, "a", False, seed=1)[:-1])


def test_too_few_prompts():
    assert not is_for_test("1")
    with pytest.raises(
        InputError, match=r"task t: these options give so few .* left for split 'a'"
    ):
        draw_split(
            lambda rng: Example((Segment("prompt", "1"), Segment("answer", "x"))),
            1,
            0,
            "t",
            "a",
            True,
        )


def test_computed_examples_are_a_sequence():
    made = []

    def make(index):
        made.append(index)
        return numbers(10**9)(generator(0, index))

    examples = Computed(5, make)
    assert len(examples) == 5 and not made
    everything = list(examples)
    assert examples[1] == everything[1] == examples[-4]
    assert examples[1:4] == everything[1:4] and examples[::-2] == everything[::-2]
    assert everything[2] in examples and examples.index(everything[3]) == 3
    for outside in (5, -6):
        with pytest.raises(IndexError):
            examples[outside]
