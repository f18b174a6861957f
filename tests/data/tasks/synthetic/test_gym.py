"""The task gym against reasoning-gym itself, with arithmetic of our own on its text."""

import json
import re

import numpy as np
import pytest
import reasoning_gym

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks import Gym, score_answer

SMALL = {"dataset": "chain_sum", "train_size": 300, "test_size": 50}


def test_every_answer_is_right_by_plain_arithmetic():
    task = Gym(**SMALL)
    assert [len(split) for split in task.all_splits().values()] == [300, 50]
    check_disjoint(task.all_splits())
    for split in task.all_splits().values():
        for example in split:
            terms = re.search(r":\s*(.+?)\s*=?\n$", example.text("prompt"))[1]
            assert re.fullmatch(r"[-+ \d]+", terms) and int(example.answer) == eval(terms)


def test_the_data_set_itself_judges():
    task = Gym(dataset="chain_sum", train_size=5, test_size=2)
    for example in task.split("train"):
        recipe = json.loads(example.judge)
        own = reasoning_gym.create_dataset("chain_sum", seed=recipe["seed"], size=recipe["size"])
        entry = own[recipe["index"]]
        assert entry["question"].rstrip() + "\n" == example.text("prompt")
        for answer in (example.answer, f" {example.answer} is it", "7", ""):
            assert score_answer(example.judge, answer) == own.score_answer(answer, entry)
        assert score_answer(example.judge, example.answer) == 1
        assert score_answer(example.judge, "none") < 1


def test_an_answer_other_than_the_reference_can_be_right():
    # Any arrangement of the numbers that gives the target is right.
    task = Gym(dataset="countdown", train_size=3, test_size=1)
    example = task.split("train")[0]
    other = f"({example.answer})"
    assert other != example.answer and score_answer(example.judge, other) == 1


def test_seeds_share_hardly_an_example_and_one_seed_is_always_the_same():
    keys = [{e.key for e in Gym(**SMALL, seed=seed).split("train")} for seed in (0, 0, 1)]
    own = [
        {e["question"] for e in reasoning_gym.create_dataset("chain_sum", seed=s, size=300)}
        for s in (0, 1)
    ]
    assert len(own[0] & own[1]) >= len(own[0]) - 1  # the library's own seeds
    assert keys[0] == keys[1] and len(keys[0] & keys[2]) < 10


@pytest.mark.parametrize(
    "options, match",
    [
        ({"dataset": "chain_sums"}, "has no data set 'chain_sums'; did you mean 'chain_sum'"),
        ({"dataset": "chain_sum", "options": {"max_trms": 2}}, "chain_sum does not accept these"),
    ],
)
def test_what_cannot_be_drawn(options, match):
    with pytest.raises(InputError, match=match):
        Gym(**options).split("train")


def test_a_split_that_cannot_be_filled(monkeypatch):
    monkeypatch.setattr("ntpctp.data.tasks.synthetic.gym.is_for_test", lambda question: False)
    with pytest.raises(
        InputError, match=r"too few different questions .*: 150 draws gave 2 for tr"
    ):
        Gym(dataset="chain_sum", train_size=2, test_size=1).split("test")


def test_the_measure_takes_the_task_s_own_judgement(tiny, tmp_path, monkeypatch):
    from ntpctp.measures import Accuracy
    from ntpctp.measures.computation import answers as judging
    from ntpctp.measures.context import EvaluationContext
    from ntpctp.models.inference import Decoded, score_and_generate
    from ntpctp.runner.prepare import initial_model, prepare

    task = {"name": "gym", "dataset": "countdown", "train_size": 40, "test_size": 3}
    experiment = tiny(task=task, tokenizer="characters")
    data = prepare(experiment, tmp_path / "cache")
    examples = data.splits["test"].examples
    answers = [f"({examples[0].answer})", "1", f"({examples[2].answer})"]

    def write(model, asked, *rest):
        found, _ = score_and_generate(model, asked, *rest)
        ids = [data.tokenizer(text, add_special_tokens=False).input_ids for text in answers]
        ends = (True, True, False)
        return found, [Decoded(np.array(i), end, 0.0) for i, end in zip(ids, ends, strict=True)]

    monkeypatch.setattr(judging, "score_and_generate", write)
    initial_model(experiment.arms["ctp"], data, 0).save_pretrained(tmp_path / "m")
    objective = experiment.arms["ctp"].objective
    context = EvaluationContext(
        source=tmp_path / "m",
        tokenizer=data.tokenizer,
        splits=data.splits,
        evaluation_splits=("test",),
        objective=objective,
    )
    rows, scores = Accuracy(train_items=0).measure(context)
    wrong = score_answer(examples[1].judge, "1")
    assert wrong < 1
    # The third did not stop.
    assert [row["judged"] for row in rows] == [1, wrong, 0]
    assert [row["exact_match"] for row in rows] == [0, 0, 0]
    (judged,) = [score for score in scores if score.score == "judged"]
    assert judged.value == pytest.approx((1 + wrong) / 3) and judged.higher_is_better
