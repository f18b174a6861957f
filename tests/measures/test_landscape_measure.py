"""Landscape against float64 losses at points made by hand, and the dense spectrum."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ntpctp._core.rng import torch_seed
from ntpctp.measures import Landscape
from tests.measures.curvature_context import Reference, make_context

SMALL = {"directions": 2, "points": 9, "plane_points": 3, "probes": 2, "lanczos_steps": 4}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def measured(request, tmp_path_factory):
    """Subject, dense reference, rows by kind, and scores by name."""
    context = make_context(tmp_path_factory.mktemp(request.param), request.param)
    measure = Landscape(
        **SMALL | {"probes": 6, "lanczos_steps": 20}, relative_tolerance=1e-4, seed=5
    )
    rows, scores = measure.measure(context)
    kinds = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row)
    return context, Reference(context, "train", 7), kinds, {score.score: score for score in scores}


def directions(reference, seed=5):
    generator = torch.Generator().manual_seed(torch_seed(seed, "directions"))
    drawn = torch.randn((2, len(reference.flat)), generator=generator, dtype=torch.float64)
    return [reference.filter_normalised(row) for row in drawn]


def losses_along(reference, direction, axis):
    return [float(reference(reference.flat + a * direction)) for a in axis]


@pytest.mark.slow
def test_slices_and_their_rise_equal_a_loop(measured):
    _, reference, kinds, scores = measured
    axis, rises = np.linspace(-0.5, 0.5, 9), []
    assert len(kinds["slice"]) == 2
    for row, direction in zip(kinds["slice"], directions(reference), strict=True):
        truth = losses_along(reference, direction, axis)
        np.testing.assert_allclose(row["coordinates"], axis)
        np.testing.assert_allclose(row["losses"], truth, rtol=1e-5)
        parts = [(a + b) / 2 - truth[4] for a, b in pairwise(truth)]
        rises.append(sum(parts) / 8)
    assert scores["slice_rise"].value == pytest.approx(np.mean(rises), rel=1e-4)
    error = abs(rises[0] - rises[1]) / 2
    assert scores["slice_rise"].standard_error == pytest.approx(error, rel=1e-3)


def test_the_plane_is_spanned_by_the_first_two_directions(measured):
    _, reference, kinds, _ = measured
    ((row,), axis) = kinds["plane"], (-0.5, 0.0, 0.5)
    first, second = directions(reference)
    truth = [losses_along(_Moved(reference, a * first), second, axis) for a in axis]
    np.testing.assert_allclose(row["losses"], truth, rtol=1e-5)


class _Moved:
    """A reference whose origin is elsewhere."""

    def __init__(self, reference, offset):
        self._loss, self.flat = reference, reference.flat + offset

    def __call__(self, flat):
        return self._loss(flat)


def test_the_eigenvector_slice_goes_uphill_along_the_dense_one(measured):
    _, reference, kinds, scores = measured
    values, vectors = np.linalg.eigh(reference.hessian())
    vector = torch.from_numpy(vectors[:, -1].copy())
    vector = vector * torch.sign(vector @ reference.gradient())
    (row,) = kinds["eigenvector"]
    axis = np.linspace(-0.1, 0.1, 9)
    truth = losses_along(reference, vector, axis)
    assert row["value"] == pytest.approx(values[-1], rel=1e-3)
    np.testing.assert_allclose(row["losses"], truth, atol=2e-3 * np.ptp(truth))
    score = scores["eigenvector_rise"]
    rise = np.trapezoid(np.array(truth) - truth[4], axis) / 0.2
    coarse = np.trapezoid(np.array(truth[::2]) - truth[4], axis[::2]) / 0.2
    assert score.value == pytest.approx(rise, abs=2e-3 * np.ptp(truth))
    assert score.error_bound == pytest.approx(abs(rise - coarse), abs=2e-3 * np.ptp(truth))


def test_the_side_of_the_eigenvector_is_not_left_to_chance(tmp_path):
    context = make_context(tmp_path)
    settings = {"directions": 1, "points": 5, "probes": 2, "lanczos_steps": 2}
    first, *others = (
        next(
            row["losses"]
            for row in Landscape(**settings, seed=seed).measure(context)[0]
            if row["kind"] == "eigenvector"
        )
        for seed in range(6)
    )
    assert first[0] != pytest.approx(first[-1], rel=0.01)  # the two sides can be told apart
    for losses in others:
        assert losses == pytest.approx(first, rel=1e-2)


def test_moments_of_the_spectrum_lie_within_their_standard_errors(measured):
    _, reference, kinds, scores = measured
    values = np.linalg.eigvalsh(reference.hessian())
    mean, root = scores["mean_eigenvalue"], scores["root_mean_square_eigenvalue"]
    assert abs(mean.value - values.mean()) < 4 * mean.standard_error
    truth = float(np.sqrt(np.mean(values**2)))
    assert abs(root.value - truth) < 4 * root.standard_error < truth
    for row in kinds["density"]:
        assert len(row["nodes"]) == 20 and sum(row["weights"]) == pytest.approx(1)
        assert min(row["nodes"]) > values[0] - 1e-3 and max(row["nodes"]) < values[-1] + 1e-3


def test_pyhessian_gives_the_same_moments(tmp_path):
    context = make_context(tmp_path)
    values = np.linalg.eigvalsh(Reference(context, "train", 7).hessian())
    settings = {"directions": 1, "points": 5, "probes": 4, "lanczos_steps": 10}
    rows, scores = Landscape(**settings, backend="pyhessian").measure(context)
    assert rows[0]["backend"] == "pyhessian" and not any(row["kind"] == "plane" for row in rows)
    assert abs(scores[0].value - values.mean()) < 4 * scores[0].standard_error
    slices = next(score for score in scores if score.score == "slice_rise")
    assert slices.value is not None and slices.standard_error is None  # one direction


def test_arms_share_their_directions_and_batches_move_nothing(tmp_path):
    one, many = (
        Landscape(**SMALL).measure(make_context(tmp_path / str(tokens), batch_tokens=tokens))
        for tokens in (1, 9999)
    )
    for first, second in zip(one[1], many[1], strict=True):
        assert first.value == pytest.approx(second.value, rel=2e-3), first.score
    assert {row["fingerprint"] for row in one[0]} == {row["fingerprint"] for row in many[0]}


def test_a_loss_that_overflows_is_null_in_rows_and_score(tmp_path):
    measure = Landscape(**SMALL, extent=1e30, eigenvector_extent=1e38)
    rows, scores = measure.measure(make_context(tmp_path))
    found = {score.score: score for score in scores}
    for name in ("slice_rise", "eigenvector_rise"):
        assert found[name].value is None
        assert "points of a slice have no finite loss" in found[name].reason
    lines = [row["losses"] for row in rows if row["kind"] in ("slice", "eigenvector")]
    assert len(lines) == 3
    for losses in lines:
        assert None in losses and losses[4] is not None


def test_an_eigenvector_that_has_not_converged_is_null(tmp_path):
    measure = Landscape(**SMALL, max_products=2, relative_tolerance=1e-6)
    rows, scores = measure.measure(make_context(tmp_path))
    score = next(score for score in scores if score.score == "eigenvector_rise")
    assert score.value is None and "has not converged: after 2 products" in score.reason
    assert "losses" not in next(row for row in rows if row["kind"] == "eigenvector")


def test_the_checkpoint_is_in_the_middle():
    for points in (6, 7):
        with pytest.raises(ValueError, match=r"expected 4 n \+ 1 points"):
            Landscape(points=points)
