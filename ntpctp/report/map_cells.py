"""What the cells of a map say about two arms, and how the difference moves with each setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ntpctp.comparison import Pair, ScoreComparison, read_comparisons
from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.maps import read_levels
from ntpctp.pipeline import load_output
from ntpctp.randomness import generator
from ntpctp.report.headline import primary_score
from ntpctp.report.wording import is_share
from ntpctp.statistics import Effect, factor_effects, holm_of_known

Levels = Mapping[str, str]


@dataclass(frozen=True)
class MapCell:
    """One cell: its experiment, and the score that its task decides before any result.

    Attributes:
        name: of its directory.
        levels: field -> its level.
        experiment: None: it has not begun.
        primary: None: nothing is measured yet, or ``reason``.
        training: arm -> mean over seeds of the same score on training items; without those arms
            for which it is not measured.
        reason: why there is no score.
    """

    name: str
    levels: Levels
    experiment: Experiment | None
    primary: ScoreComparison | None
    training: Mapping[str, float]
    reason: str | None


@dataclass(frozen=True)
class CellDifference:
    """Two arms in one cell.

    Attributes:
        cell: where.
        pair: with ``reason`` where there is no difference; None: the cell has no score.
        holm_p_value: adjusted for all cells.
        better: the arm that is better after that correction, or None.
    """

    cell: MapCell
    pair: Pair | None
    holm_p_value: float | None
    better: str | None


@dataclass(frozen=True)
class MapEffect:
    """How much larger the difference A minus B is at one level of a setting than at another.

    Attributes:
        effect: of one factor; the mean over the cells of all others.
        holm_p_value: adjusted for all effects of the map.
    """

    effect: Effect
    holm_p_value: float | None


@dataclass(frozen=True)
class PairMap:
    """Two arms over the whole map.

    Attributes:
        a: the first arm.
        b: the second.
        cells: in the order of the map.
        effects: of every setting; empty where ``reason`` says why.
        seeds: that all cells have; the effects rest on them.
        reason: why there are no effects.
    """

    a: str
    b: str
    cells: list[CellDifference]
    effects: list[MapEffect]
    seeds: list[int]
    reason: str | None


def read_cells(output: Path) -> tuple[str, list[MapCell]]:
    """Read a map from what is stored in its cells; return its name with them.

    Raises:
        InputError: if ``output`` is no map. A cell that cannot be read has a reason instead.
    """
    name, levels = read_levels(output)
    return name, [_read_cell(output / cell, of_cell) for cell, of_cell in levels.items()]


def _read_cell(directory: Path, levels: Levels) -> MapCell:
    experiment: Experiment | None = None
    try:
        experiment = load_output(directory)
        comparisons = read_comparisons(directory)
    except InputError as error:
        reason = "not run yet" if not directory.is_dir() else str(error)
        return MapCell(directory.name, levels, experiment, None, {}, reason)
    primary = primary_score(experiment, comparisons)
    training = {}
    for other in comparisons:
        if primary and other.split == "train" and _same_kind(other, primary):
            training = {arm: spread.mean for arm, spread in other.arms.items() if spread}
    missing = None if primary else "nothing is measured"
    return MapCell(directory.name, levels, experiment, primary, training, missing)


def _same_kind(one: ScoreComparison, other: ScoreComparison) -> bool:
    def kind(score: ScoreComparison) -> tuple[object, ...]:
        return score.measure, score.score, score.stratum, score.strength

    return kind(one) == kind(other)


def pair_maps(cells: Sequence[MapCell]) -> list[PairMap]:
    """Return the map of every pair of arms.

    p values are corrected (Holm) for the cells in which the pair has one, and those of the
    settings' effects among themselves.
    """
    arms = next((list(c.experiment.arms) for c in cells if c.experiment), [])
    return [_pair_map(cells, a, b) for a, b in combinations(arms, 2)]


def _pair_map(cells: Sequence[MapCell], a: str, b: str) -> PairMap:
    pairs = [_pair(cell, a, b) for cell in cells]
    p_values = [pair.difference.p_value if pair and pair.difference else None for pair in pairs]
    differences = [
        CellDifference(cell, pair, p, _better(cell, pair, p))
        for cell, pair, p in zip(cells, pairs, holm_of_known(p_values), strict=True)
    ]
    effects, seeds, reason = _effects(cells, a, b)
    return PairMap(a, b, differences, effects, seeds, reason)


def _pair(cell: MapCell, a: str, b: str) -> Pair | None:
    if cell.primary is None:
        return None
    return next((pair for pair in cell.primary.pairs if (pair.a, pair.b) == (a, b)), None)


def _better(cell: MapCell, pair: Pair | None, p_value: float | None) -> str | None:
    if cell.primary is None or cell.experiment is None or pair is None or pair.difference is None:
        return None
    level = cell.experiment.comparison.level
    if p_value is None or p_value > 1 - level or cell.primary.higher_is_better is None:
        return None
    return pair.a if (pair.difference.estimate > 0) == cell.primary.higher_is_better else pair.b


def _effects(
    cells: Sequence[MapCell], a: str, b: str
) -> tuple[list[MapEffect], list[int], str | None]:
    """Return how the difference moves with each setting; the seeds; or why it cannot be said."""
    by_seed: dict[tuple[str, ...], dict[int, float]] = {}
    units = set()
    for cell in cells:
        if cell.primary is None:
            return [], [], f"{cell.name}: {cell.reason}"
        of_a, of_b = (cell.primary.values.get(arm, {}) for arm in (a, b))
        found = {
            seed: x - y
            for seed, x in of_a.items()
            if x is not None and (y := of_b.get(seed)) is not None
        }
        by_seed[tuple(cell.levels.values())] = found
        units.add((cell.primary.score, cell.primary.unit))
    if len(units) > 1:
        return [], [], "the cells are about different scores"
    seeds = sorted(set.intersection(*(set(found) for found in by_seed.values())))
    if len(seeds) < 2:
        return [], seeds, "fewer than two seeds have a value of both arms in every cell"
    shares = is_share(next(iter(units))[1])
    level = next(cell.experiment.comparison.level for cell in cells if cell.experiment)
    found_effects = factor_effects(
        {levels: np.array([found[seed] for seed in seeds]) for levels, found in by_seed.items()},
        list(cells[0].levels),
        generator(0, "map", a, b),
        level=level,
        largest=2.0 if shares else np.inf,
    )
    # With four settings interactions would be dozens: the cells themselves show them.
    main = [effect for effect in found_effects if len(effect.factors) == 1]
    adjusted = holm_of_known([effect.difference.p_value for effect in main])
    return [MapEffect(*both) for both in zip(main, adjusted, strict=True)], seeds, None
