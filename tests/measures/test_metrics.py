"""The numbers against their definitions, item by item in float64, and through `evaluate`."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ntpctp._core.errors import InputError
from ntpctp.measures import metrics

ROOT = Path(__file__).parents[2]


def test_exact_match_removes_outer_space_and_applies_rules():
    assert metrics.exact_match(" 12\n", "12")
    assert not metrics.exact_match("1 2", "12")
    assert not metrics.exact_match("true.", "True")
    assert metrics.exact_match("true.", "True", ["case", "full_stop"])


def test_a_tie_is_wrong_wherever_the_right_candidate_stands():
    assert metrics.choice_correct([-1.0, -2.0], 0)
    assert not metrics.choice_correct([-1.0, -2.0], 1)
    for right in (0, 1):
        assert not metrics.choice_correct([-1.0, -1.0, -3.0], right)
    assert metrics.choice_correct([-2.0, -2.0, -1.0], 2)  # a tie among the wrong ones
    assert not metrics.choice_correct([-math.inf, -math.inf], 0)


def test_the_length_can_turn_a_choice():
    values, candidates = [-4.0, -6.0], ["ab", "abcdef"]
    assert metrics.choice_correct(values, 0)
    assert metrics.normalised_choice_correct(values, candidates, 1)  # -2 and -1 per character
    assert not metrics.normalised_choice_correct([-2.0, -4.0], ["a", "bc"], 0)  # a tie


def test_probabilities_are_a_softmax_and_survive_small_likelihoods():
    found = metrics.choice_probabilities([-1000.0, -1000.0 - math.log(3)])
    np.testing.assert_allclose(found, [0.75, 0.25], rtol=1e-12)


def reference_calibration_error(confidences, correct, num_bins):
    """Guo et al. 2017, bin by bin, in exact fractions."""
    total = Fraction(0)
    for number in range(num_bins):
        low, high = Fraction(number, num_bins), Fraction(number + 1, num_bins)
        inside = [
            (p, c)
            for p, c in zip(confidences, correct, strict=True)
            if low < p <= high or (p == 0 and number == 0)
        ]
        if inside:
            accuracy = Fraction(sum(c for _, c in inside), len(inside))
            confidence = sum((p for p, _ in inside), Fraction(0)) / len(inside)
            total += Fraction(len(inside), len(confidences)) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("num_bins", [1, 4, 15, 16])
def test_calibration_error_is_that_of_its_definition(num_bins):
    rng = np.random.default_rng(3)
    # Multiples of 1/256: exact in binary, some on the edges of 1, 4 and 16 bins; 0 and 1 too.
    numbers = np.concatenate([rng.integers(0, 257, 200), [0, 256, 64, 128, 16]])
    correct = rng.random(len(numbers)) < numbers / 300
    expected = reference_calibration_error(
        [Fraction(int(n), 256) for n in numbers], correct.tolist(), num_bins
    )
    found = metrics.expected_calibration_error(numbers / 256, correct, num_bins)
    assert found == pytest.approx(float(expected), abs=1e-14)


def test_calibration_error_of_known_cases():
    assert metrics.expected_calibration_error([1.0, 1.0], [1, 0]) == 0.5
    assert metrics.expected_calibration_error([0.75] * 4, [1, 1, 1, 0]) == 0.0
    # Over- and underconfidence in one bin cancel, in two they do not.
    assert metrics.expected_calibration_error([0.5, 0.5], [1, 0]) == 0.0
    assert metrics.expected_calibration_error([0.45, 0.55], [1, 0], 2) == pytest.approx(0.55)


def test_brier_score_by_hand():
    assert metrics.brier_score([1.0, 0.0], 0) == 0
    assert metrics.brier_score([1.0, 0.0], 1) == 2
    assert metrics.brier_score([0.5, 0.25, 0.25], 0) == 0.25 + 2 * 0.0625
    assert metrics.brier_score([0.25] * 4, 2) == 0.75


def test_token_loss_is_no_mean_of_means():
    loss = metrics.loss_per_token([6.0, 1.0], [2, 1])
    assert loss.nats == 7 / 3 and loss.tokens == 3
    assert loss.bits == pytest.approx(7 / 3 / math.log(2), rel=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.choice_correct([-1.0], 1), "right: expected an index of 1 candidates"),
        (lambda: metrics.choice_correct([math.nan, 0.0], 1), "log_likelihoods: expected"),
        (
            lambda: metrics.normalised_choice_correct([-1.0, -2.0], ["a", ""], 0),
            "expected 2 non-empty texts",
        ),
        (lambda: metrics.brier_score([0.5, 0.4], 0), "expected a list that adds up to 1"),
        (lambda: metrics.brier_score([0.5, 0.5], -1), "right: expected an index"),
        (lambda: metrics.expected_calibration_error([], []), "two lists of one length"),
        (lambda: metrics.expected_calibration_error([0.1, 1.5], [0, 1]), "found 1.5 at item 1"),
        (lambda: metrics.expected_calibration_error([0.1], [0], 0), "num_bins: expected at least"),
        (lambda: metrics.loss_per_token([1.0], [0]), "together at least 1"),
        (lambda: metrics.loss_per_token([1.0], [1, 2]), r"found shapes \(1,\) and \(2,\)"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The real library, as a user calls it."""
    import evaluate

    monkeypatch.chdir(ROOT)
    return lambda name: evaluate.load(f"evaluation/metrics/{name}", cache_dir=str(tmp_path))


def test_answer_accuracy_loads(load):
    metric = load("answer_accuracy")
    predictions, references = ["12 ", "Yes.", "no"], ["12", "yes", "yes"]
    assert metric.compute(predictions=predictions, references=references) == {
        "answer_accuracy": 1 / 3,
        "count": 3,
    }
    found = metric.compute(
        predictions=predictions, references=references, rules=["case", "full_stop"]
    )
    assert found["answer_accuracy"] == 2 / 3


def test_choice_accuracy_loads(load):
    metric = load("choice_accuracy")
    found = metric.compute(
        predictions=[[-4.0, -6.0], [-1.0, -1.0], [-3.0, -2.0, -9.0]],
        references=[1, 0, 1],
        candidates=[["ab", "abcdef"], ["a", "b"], ["a", "b", "c"]],
    )
    assert found == {
        "choice_accuracy": 1 / 3,
        "choice_accuracy_normalised": 2 / 3,
        "count": 3,
    }
    assert metric.compute(predictions=[[-1.0, -2.0]], references=[0]) == {
        "choice_accuracy": 1.0,
        "count": 1,
    }


def test_token_loss_loads(load):
    found = load("token_loss").compute(predictions=[6.0, 1.0], references=[2, 1])
    assert found == {
        "nats_per_token": 7 / 3,
        "bits_per_token": 7 / 3 / math.log(2),
        "tokens": 3,
        "count": 2,
    }


def test_calibration_loads(load):
    found = load("calibration").compute(
        predictions=[[0.75, 0.25], [0.125, 0.875], [0.5, 0.5]], references=[0, 0, 0], num_bins=4
    )
    # Bins (0.25, 0.5]: right with 0.5; (0.5, 0.75]: right with 0.75; (0.75, 1]: wrong with 0.875.
    assert found["expected_calibration_error"] == pytest.approx((0.5 + 0.25 + 0.875) / 3)
    assert found["brier_score"] == pytest.approx((2 * 0.0625 + 2 * 0.875**2 + 0.5) / 3)
    assert found["count"] == 3
