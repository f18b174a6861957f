"""Flatness against the eigenvalues of a dense float64 Hessian, and what it says beside them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.config import Evaluation
from ntpctp.curvature import top_eigenvalues
from ntpctp.measures import MEASURES, Flatness
from ntpctp.measures.computation import flatness
from ntpctp.objectives import NTP, Selective
from tests.measures.curvature_context import Reference, make_context


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("flatness")


@pytest.fixture(scope="module")
def context(place):
    return make_context(place / "gpt2", objective=NTP())


@pytest.fixture(scope="module")
def spectrum(context):
    """(split, number of rows, objective) -> all eigenvalues, ascending."""

    @cache
    def of(split, number, own=False):
        reference = Reference(context, split, number, NTP() if own else None)
        return np.linalg.eigvalsh(reference.hessian())

    return of


def by_name(scores, split="train"):
    return {score.score: score for score in scores if score.split == split}


def test_both_ends_and_the_half_equal_the_dense_spectrum(context, spectrum):
    measure = Flatness(ends="both", relative_tolerance=1e-4, half_tolerance=1e-4, max_products=400)
    rows, scores = measure.measure(context)
    found = by_name(scores)
    truths = {
        "top_eigenvalue_answer_loss": spectrum("train", 7)[-1],
        "smallest_eigenvalue_answer_loss": spectrum("train", 7)[0],
        "top_eigenvalue_own_loss": spectrum("train", 7, own=True)[-1],
        "smallest_eigenvalue_own_loss": spectrum("train", 7, own=True)[0],
        "top_eigenvalue_half_answer_loss": spectrum("train", 3)[-1],
    }
    assert len({round(float(truth), 4) for truth in truths.values()}) == 5  # told apart
    assert truths["smallest_eigenvalue_answer_loss"] < 0
    for name, truth in truths.items():
        assert found[name].value == pytest.approx(truth, rel=1e-3), name
        assert 0 < found[name].error_bound <= 1e-4 * abs(truth) * 1.01
        assert found[name].unit == "nats per token and squared unit of weight"
    assert found["top_eigenvalue_answer_loss"].count == 7
    assert found["top_eigenvalue_half_answer_loss"].count == 3
    norm = found["parameter_norm"]
    expected = float(Reference(context, "train", 7).flat.norm())
    assert norm.value == pytest.approx(expected, rel=1e-6) and norm.error_bound > 0
    assert len(rows[-1]["parameter_norms"]) == norm.count


def test_a_row_says_what_was_done_on_which_examples(context, place):
    rows, _ = Flatness().measure(context)
    answer, own, half, _ = rows
    reference = Reference(context, "train", 7)
    assert answer["mean_loss"] == pytest.approx(float(reference(reference.flat)), rel=1e-5)
    assert answer["gradient_norm"] == pytest.approx(float(reference.gradient().norm()), rel=1e-4)
    labels = reference.batch["labels"][:, 1:]
    assert answer["weight"] == int((labels != -100).sum()) < own["weight"]
    assert answer["kept_graphs"] == answer["batches"] > 1 and answer["kept_graph_bytes"] > 0
    assert answer["products"] > 1 and answer["converged"]
    # The other end is an upper bound as long as nobody waits for it.
    smallest = np.linalg.eigvalsh(reference.hessian())[0]
    assert answer["smallest_value"] + 1e-4 >= smallest
    other, _ = Flatness().measure(make_context(place / "other", steps=3))
    assert answer["fingerprint"] == own["fingerprint"] == other[0]["fingerprint"]
    assert answer["fingerprint"] != half["fingerprint"]


def test_memory_bound_and_batch_size_move_no_number(context, place):
    rows, scores = Flatness(ends="both").measure(context)
    bound_rows, bound = Flatness(ends="both", graph_memory_bytes=0).measure(context)
    assert bound_rows[0]["kept_graphs"] == 0 < rows[0]["kept_graphs"]
    _, alone = Flatness(ends="both").measure(
        make_context(place / "b", batch_tokens=1, objective=NTP())
    )
    for first, second, third in zip(scores, bound, alone, strict=True):
        # The smallest is near 0.1 % of the largest, whose rounding it carries.
        assert second.value == pytest.approx(first.value, rel=1e-3), first.score
        assert third.value == pytest.approx(first.value, rel=1e-3), first.score


def test_splits_may_be_several(context, spectrum):
    _, scores = Flatness(split=["test", "train"]).measure(context)
    for split, number in (("test", 5), ("train", 7)):
        top = by_name(scores, split)["top_eigenvalue_answer_loss"]
        assert top.value == pytest.approx(spectrum(split, number)[-1], rel=1e-3)
        assert top.count == number
    with pytest.raises(InputError, match=r"unknown split 'tset'; did you mean 'test'"):
        Flatness(split="tset").measure(context)


def test_each_end_is_judged_by_its_own_residual(context, monkeypatch):
    def unfinished(*args, **options):
        found = top_eigenvalues(*args, **options)
        return replace(found, converged=False, opposite_residual=0.1, opposite_value=-5.0)

    monkeypatch.setattr(flatness, "top_eigenvalues", unfinished)
    found = by_name(Flatness(ends="both").measure(context)[1])
    assert found["top_eigenvalue_answer_loss"].value is not None
    smallest = found["smallest_eigenvalue_answer_loss"]
    assert smallest.value is None and smallest.error_bound == 0.1
    assert "the residual 0.1 exceeds 0.001 of the estimate -5" in smallest.reason


def test_one_item_has_no_half(context):
    _, scores = Flatness(max_items=1).measure(context)
    half = by_name(scores)["top_eigenvalue_half_answer_loss"]
    assert half.value is None and half.reason == "there is one item, and half of it is none"
    rows, scores = Flatness(half=False).measure(context)
    assert len(rows) == 3 and "top_eigenvalue_half_answer_loss" not in by_name(scores)


def test_a_selective_objective_has_no_own_eigenvalues(place):
    context = make_context(place / "selective", objective=Selective(reference="anywhere"))
    _, scores = Flatness(ends="both").measure(context)
    for end in ("top", "smallest"):
        assert "no single Hessian" in by_name(scores)[f"{end}_eigenvalue_own_loss"].reason


def test_half_precision_is_measured_in_full(context, place):
    half = make_context(place / "bf16", objective=NTP(), dtype=torch.bfloat16)
    assert next(half.model.parameters()).dtype == torch.bfloat16
    scores = [Flatness().measure(s)[1] for s in (context, half)]
    assert [s.value for s in scores[0]] == [s.value for s in scores[1]]


def test_the_dear_measures_are_taken_only_where_named():
    assert {"sharpness", "landscape"} <= set(MEASURES)
    taken = [measure.name for measure in Evaluation().measures]
    assert taken == ["accuracy", "robustness", "flatness"]


@pytest.mark.slow
def test_pyhessian_finds_the_largest_eigenvalue_unless_a_negative_one_is_larger(context, spectrum):
    rows, scores = Flatness(backend="pyhessian", max_products=1000).measure(context)
    found = by_name(scores)
    truths = {
        "top_eigenvalue_answer_loss": spectrum("train", 7),
        "top_eigenvalue_own_loss": spectrum("train", 7, own=True),
        "top_eigenvalue_half_answer_loss": spectrum("train", 3),
    }
    assert {*found} == {*truths, "parameter_norm"}
    negative = [-values[0] > values[-1] for values in truths.values()]
    assert negative == [True, False, False]
    for (name, values), tolerance in zip(truths.items(), (1e-3, 1e-3, 1e-2), strict=True):
        score, largest = found[name], max(values, key=abs)
        assert 0 < score.error_bound <= tolerance * abs(largest), name
        if largest < 0:
            assert score.value is None and f"PyHessian found {largest:.0f}" in score.reason
        else:
            assert score.value == pytest.approx(largest, rel=1e-3) and score.reason is None
    assert [row.get("backend") for row in rows] == ["pyhessian"] * 3 + [None]
    assert rows[0]["value"] == pytest.approx(spectrum("train", 7)[0], rel=1e-3)
    ours = by_name(Flatness().measure(context)[1])
    for name in truths:
        assert found[name].higher_is_better == ours[name].higher_is_better
        assert (found[name].unit, found[name].count) == (ours[name].unit, ours[name].count)


def test_pyhessian_without_convergence_is_null(context):
    measure = Flatness(backend="pyhessian", relative_tolerance=1e-4, max_products=2, half=False)
    rows, scores = measure.measure(context)
    score = by_name(scores)["top_eigenvalue_answer_loss"]
    assert score.value is None and score.error_bound > 0 and not rows[0]["converged"]
    assert "after at most 2 iterations of PyHessian" in score.reason


def test_the_default_backend_leaves_stored_results_valid():
    """Options stored before there was a choice have no such field."""
    assert "backend" not in Flatness().model_dump(mode="json")
    other = Flatness(backend="pyhessian")
    assert Flatness.model_validate(other.model_dump(mode="json")) == other
    with pytest.raises(ValueError, match="expected ends: largest with backend: pyhessian"):
        Flatness(backend="pyhessian", ends="both")
