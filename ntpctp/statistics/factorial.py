"""Main effects and interactions of a grid of arms, paired by seed.

Shape letters: S seeds, N items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import ArrayLike

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.difference import PairedDifference, paired_difference


@dataclass(frozen=True)
class Effect:
    """A contrast between the arms of a grid, in the unit of the score."""

    factors: tuple[str, ...]  # one factor: a main effect. Two: an interaction.
    levels: tuple[tuple[str, str], ...]
    """For each factor the two compared levels; the effect is the first minus the second."""
    difference: PairedDifference  # ``probability_a_better`` compares the two sides of the contrast


def factor_effects(
    cells: Mapping[tuple[str, ...], ArrayLike],
    factors: Sequence[str],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
) -> tuple[Effect, ...]:
    """Return all main effects, then all two-factor interactions, of a full grid of arms.

    With the mean y over the levels of all other factors,

        main effect of level i over level j           y_i - y_j,
        interaction of (i, j) and (k, l)              (y_ik - y_jk) - (y_il - y_jl),

    the latter is how much larger the effect of one factor is at level k of the other than at level
    l. (Half of it is the "interaction effect" of some textbooks.) Each contrast is computed within
    seed and item and tested by ``paired_difference``; for two levels and one score per seed, t^2 is
    the F statistic of the repeated-measures analysis of variance. No p value is adjusted: apply
    ``holm``. ``cells`` maps (level of factor 1, level of factor 2, ...) -> scores, all of one shape
    (S, N) or (S,); a missing combination of levels raises ``InputError``, which names it. Levels
    keep the order of their first appearance; ``factors`` are the names in the order of the keys.
    ``largest`` is that of the difference between two cells, as for ``paired_difference``; an
    interaction can be twice as large.
    """
    levels = _levels(cells, factors)
    shapes = {key: np.shape(scores) for key, scores in cells.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"expected scores of one shape in all cells, got {shapes}")
    grid: FloatArray = np.stack(
        [_checks.finite(cells[key], str(key), 1, 2) for key in product(*levels)]
    ).reshape(*(len(names) for names in levels), *next(iter(shapes.values())))

    def mean(fixed: Mapping[int, str]) -> FloatArray:
        """Return the mean over the factors without a ``fixed`` level, (S,) or (S, N)."""
        index = tuple(
            levels[axis].index(fixed[axis]) if axis in fixed else slice(None)
            for axis in range(len(factors))
        )
        free = tuple(range(len(factors) - len(fixed)))
        return np.asarray(grid[index].mean(axis=free), dtype=np.float64)

    def contrast(
        names: tuple[str, ...], pairs: tuple[tuple[str, str], ...], a: FloatArray, b: FloatArray
    ) -> Effect:
        bound = len(names) * largest
        return Effect(names, pairs, paired_difference(a, b, rng, level=level, largest=bound))

    effects = []
    for x, name in enumerate(factors):
        for pair in combinations(levels[x], 2):
            a, b = (mean({x: of_x}) for of_x in pair)
            effects.append(contrast((name,), (pair,), a, b))
    for x, y in combinations(range(len(factors)), 2):
        for pair_x, pair_y in product(combinations(levels[x], 2), combinations(levels[y], 2)):
            i, j = pair_x
            a, b = (mean({x: i, y: of_y}) - mean({x: j, y: of_y}) for of_y in pair_y)
            effects.append(contrast((factors[x], factors[y]), (pair_x, pair_y), a, b))
    return tuple(effects)


def _levels(cells: Mapping[tuple[str, ...], ArrayLike], factors: Sequence[str]) -> list[list[str]]:
    for key in cells:
        if len(key) != len(factors):
            raise InputError(f"cell {key}: expected one level for each of {tuple(factors)}")
    levels = [list(dict.fromkeys(key[axis] for key in cells)) for axis in range(len(factors))]
    for name, of_factor in zip(factors, levels, strict=True):
        if len(of_factor) < 2:
            raise InputError(f"factor {name!r}: expected at least two levels, got {of_factor}")
    missing = [key for key in product(*levels) if key not in cells]
    if missing:
        raise InputError(f"expected every combination of levels, missing: {missing}")
    return levels
