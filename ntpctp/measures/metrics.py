"""Metrics: functions of answers, log-likelihoods and losses, without a model.

The measures and the modules for ``evaluate`` in ``evaluation/metrics`` call these definitions.

Shape letters: N = items, C = candidates of one item.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntpctp._core.errors import InputError
from ntpctp.data.normalisation import Rule, normalised

NUM_BINS = 15


def exact_match(prediction: str, reference: str, rules: Collection[Rule] = ()) -> bool:
    """Return whether an answer equals the reference after ``data.normalisation``.

    >>> exact_match(" 1,234.", "1234", ["number", "full_stop"])
    True
    """
    return normalised(prediction, rules) == normalised(reference, rules)


def choice_correct(log_likelihoods: ArrayLike, right: int) -> bool:
    """Return whether the right candidate alone has the highest log-likelihood.

    A tie is wrong: the model has not chosen, and the order of candidates must not matter. ``right``
    is the index of the right one among the ``log_likelihoods``, shape (C,).
    """
    values = _log_likelihoods(log_likelihoods, right)
    return bool(values[right] == values.max() and (values == values[right]).sum() == 1)


def normalised_choice_correct(
    log_likelihoods: ArrayLike, candidates: Sequence[str], right: int
) -> bool:
    """Return ``choice_correct`` of log-likelihoods per character of the candidate.

    ``acc_norm`` of lm-evaluation-harness: a long candidate is not penalised for its length. The
    ``log_likelihoods`` are summed over the tokens of each of the C candidates; the end of sequence
    does not count as a character.
    """
    values = _log_likelihoods(log_likelihoods, right)
    lengths = np.array([len(candidate) for candidate in candidates], np.float64)
    if lengths.shape != values.shape or not lengths.all():
        raise InputError(
            f"candidates: expected {len(values)} non-empty texts, one a log-likelihood, found "
            f"{list(candidates)}"
        )
    return choice_correct(values / lengths, right)


def choice_probabilities(log_likelihoods: ArrayLike) -> NDArray[np.float64]:
    r"""Return the probabilities of the candidates of one item, given that it is one of them.

    :math:`p_c = e^{l_c} / \sum_{c'} e^{l_{c'}}`, float64 of shape (C,).
    """
    values = np.asarray(log_likelihoods, np.float64)
    weights = np.exp(values - values.max())
    return np.asarray(weights / weights.sum())


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, num_bins: int = NUM_BINS
) -> float:
    r"""Return the mean distance between confidence and accuracy over bins of items.

    :math:`\sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|` over bins
    :math:`(\frac{b-1}{B}, \frac{b}{B}]` of equal width, b = 1 ... B; the first one holds 0 as well.
    ``acc`` and ``conf`` are the means over the items of a bin. Guo et al. 2017 (ICML, equation 3).
    Biased upwards for few items: a bin of one item is never calibrated.

    ``confidences`` are those of the chosen candidates, in [0, 1], shape (N,); ``correct`` says
    whether they are right; ``num_bins`` is B.
    """
    sure, right = _alike("confidences", confidences, "correct", correct)
    outside = ~((sure >= 0) & (sure <= 1))
    if outside.any():
        raise InputError(
            f"confidences: expected probabilities in [0, 1], found {sure[outside][0]} at item "
            f"{int(np.flatnonzero(outside)[0])}"
        )
    if num_bins < 1:
        raise InputError(f"num_bins: expected at least 1, found {num_bins}")
    bins = np.clip(np.ceil(sure * num_bins).astype(int) - 1, 0, num_bins - 1)
    # (n_b / N) |acc_b - conf_b| = |sum of (right - confidence) over the bin| / N
    gaps = np.bincount(bins, right - sure, num_bins)
    return float(np.abs(gaps).sum() / len(sure))


def brier_score(probabilities: ArrayLike, right: int) -> float:
    r"""Return the squared distance of one item's probabilities from the truth, 0 to 2.

    :math:`\sum_c (p_c - [c = \mathrm{right}])^2`, the original of Brier 1950 (Monthly Weather
    Review 78), for any number of candidates. With two candidates it is twice the form for the
    probability of one of them.

    The ``probabilities``, shape (C,), sum to 1; ``right`` is the index of the right candidate.
    """
    values = np.asarray(probabilities, np.float64)
    if values.ndim != 1 or not abs(values.sum() - 1) < 1e-6:
        raise InputError(f"probabilities: expected a list that adds up to 1, found {values}")
    truth = np.zeros_like(values)
    truth[_index(right, len(values))] = 1
    return float(((values - truth) ** 2).sum())


@dataclass(frozen=True)
class LossPerToken:
    """The mean loss per token, in two units."""

    nats: float
    tokens: int

    @property
    def bits(self) -> float:
        """In bits: nats / ln 2."""
        return self.nats / log(2)


def loss_per_token(loss_sums: ArrayLike, num_tokens: ArrayLike) -> LossPerToken:
    """Return the summed loss of all tokens divided by their number, not a mean of means.

    Both have the shape (N,): nats, summed over the tokens of each item, and its number of tokens.
    """
    sums, tokens = _alike("loss_sums", loss_sums, "num_tokens", num_tokens)
    total = int(tokens.sum())
    if (tokens < 0).any() or total < 1:
        raise InputError(f"num_tokens: expected counts, together at least 1, found {tokens}")
    return LossPerToken(float(sums.sum() / total), total)


def _log_likelihoods(given: ArrayLike, right: int) -> NDArray[np.float64]:
    values = np.asarray(given, np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise InputError(f"log_likelihoods: expected a list of numbers, found {values}")
    _index(right, len(values))
    return values


def _index(right: int, number: int) -> int:
    if not 0 <= right < number:
        raise InputError(f"right: expected an index of {number} candidates, found {right}")
    return right


def _alike(
    name: str, values: ArrayLike, other_name: str, others: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float64 of shape (N,), N at least 1."""
    one, other = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise InputError(
            f"{name} and {other_name}: expected two lists of one length, at least 1, found shapes "
            f"{one.shape} and {other.shape}"
        )
    return one, other
