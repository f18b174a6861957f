"""Chains of pairs against following the pairs one by one."""

from collections import Counter

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.chain import Chain

ALLOWED = {"train": {0, 1, 4}, "test": {2, 3}}


def parse(example):
    """The pairs as {first: second} and the token asked for."""
    *tokens, query = map(int, example.text("prompt").split())
    pairs = list(zip(tokens[::2], tokens[1::2], strict=True))
    graph = dict(pairs)
    assert len(graph) == len(pairs)
    return graph, query


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_following_the_pairs_gives_the_answer(steps):
    task = Chain(steps=steps, train_size=1000, test_size=500)
    for split in ("train", "test", "ood_tokens"):
        for example in task.split(split):
            graph, at = parse(example)
            assert len(graph) == 6 and len({*graph, *graph.values()}) == 7
            for _ in range(steps):
                at = graph[at]
            assert example.answer == str(at)


@pytest.mark.parametrize("split", ["train", "test"])
def test_differences_and_range(split):
    for example in Chain(train_size=1000).split(split):
        graph, _ = parse(example)
        assert {(b - a) % 5 for a, b in graph.items()} <= ALLOWED[split]
        assert all(1 <= token <= 100 for token in (*graph, *graph.values()))


@pytest.mark.parametrize("steps, num_usual", [(1, 1), (2, 2), (3, 2)])
def test_only_the_answer_and_the_token_before_it_are_usual_ones(steps, num_usual):
    for example in Chain(steps=steps).split("ood_tokens"):
        graph, query = parse(example)
        usual = {token for token in (*graph, *graph.values()) if token <= 100}
        before = next(a for a, b in graph.items() if b == int(example.answer))
        assert usual == {int(example.answer), before} - ({query} if steps == 1 else set())
        assert len(usual) == num_usual and query > 100


def test_tokens_pairs_and_questions_are_uniform():
    examples = Chain(train_size=10_000).split("train")
    asked = Counter(parse(example)[1] for example in examples)
    assert set(asked) == set(range(1, 101)) and max(asked.values()) < 150
    # Where the pair that is asked for stands among the six.
    places = Counter(list(graph).index(query) for graph, query in map(parse, examples))
    assert all(abs(places[k] / 10_000 - 1 / 6) < 0.02 for k in range(6))
    depth = Counter()
    for graph, query in map(parse, examples):
        head = (set(graph) - set(graph.values())).pop()
        steps = 0
        while head != query:
            head, steps = graph[head], steps + 1
        depth[steps] += 1
    assert set(depth) == set(range(5)) and all(abs(n / 10_000 - 0.2) < 0.02 for n in depth.values())


def test_no_pair_of_train_occurs_in_test():
    task = Chain(train_size=3000)
    train, test = ({p for e in task.split(s) for p in parse(e)[0].items()} for s in ALLOWED)
    assert len(train) > 1000 and len(test) > 1000 and not train & test
    check_disjoint(task.all_splits())


def test_same_options_same_examples_other_seed_others():
    first, again, other = (
        {e.key for e in Chain(train_size=300, seed=seed).split("train")} for seed in (0, 0, 1)
    )
    assert first == again and not first & other


@pytest.mark.parametrize(
    "options, match",
    [
        ({"steps": 7}, "steps = 7, but a chain of 6 pairs has only 6 steps"),
        ({"tokens": 45}, "6 pairs need at least 49 tokens, found 45"),
        ({"tokens": 99}, "multiple of 5"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        Chain(**options)


def test_unknown_split():
    with pytest.raises(
        InputError, match="unknown split of chain 'ood_token'; did you mean 'ood_tokens'"
    ):
        Chain().split("ood_token")
