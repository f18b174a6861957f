"""The differences of two arms in the cells of a map, and the effects of the settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.analysis.comparison import Pair, ScoreComparison, comparison_spec, read_comparisons
from ntpctp.analysis.primary import primary_score
from ntpctp.config import Experiment, load_output
from ntpctp.config.sweep import read_levels
from ntpctp.report.html.wording import is_share
from ntpctp.statistics import Verdict, factor_effects, holm_of_known, verdict

Levels = Mapping[str, str]


@dataclass(frozen=True)
class MapCell:
    """One cell: its experiment, and the score that its task decides before any result."""

    name: str  # of its directory
    levels: Levels  # field -> its level
    experiment: Experiment | None  # None if it has not started
    primary: ScoreComparison | None  # the primary score; None if it is missing, with the ``reason``
    # arm -> mean over seeds of the same score on training items, for arms where it is
    # measured
    training: Mapping[str, float]
    reason: str | None  # why there is no score


@dataclass(frozen=True)
class CellDifference:
    """Two arms in one cell."""

    cell: MapCell  # the cell
    # their comparison, with a ``reason`` if the difference is missing; None: no score
    pair: Pair | None
    holm_p_value: float | None  # adjusted for all compared pairs of arms in all cells
    # with that p value and the experiment's margin; None if there is no verdict
    verdict: Verdict | None

    @property
    def better(self) -> str | None:
        """The arm that is better, or None."""
        if self.pair is None or self.verdict is None or self.verdict.better is None:
            return None
        return self.pair.a if self.verdict.better == "a" else self.pair.b


@dataclass(frozen=True)
class MapEffect:
    """The change of the difference A minus B from one level of a setting to another.

    The mean over the cells of all other settings, seed by seed, with a t interval over seeds.
    """

    setting: str  # the field
    start: str  # the level that comes first in the file
    end: str  # the other
    estimate: float  # A minus B at ``end`` less A minus B at ``start``
    low: float | None  # lower end of the interval
    high: float | None  # upper end
    p_value: float | None  # of the t test
    holm_p_value: float | None = None  # adjusted for all effects of the map


@dataclass(frozen=True)
class PairMap:
    """Two arms over the whole map."""

    a: str  # the first arm
    b: str  # the second
    indices: tuple[int, int]  # of both among all arms, for their colours
    cells: list[CellDifference]  # in the order of the map
    effects: list[MapEffect]  # of every setting; empty if ``reason`` is given
    seeds: list[int]  # seeds with a value in all cells; the effects rest on them
    reason: str | None  # why there are no effects


def read_cells(output: Path) -> tuple[str, list[MapCell]]:
    """Read a map from the files in its cells; return its name and the cells.

    Raises:
        InputError: if ``output`` is not the directory of a map. Unreadable cells get a reason.
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
        if primary and other.split == "train" and _kind(other)[1:] == _kind(primary)[1:]:
            training = {arm: spread.mean for arm, spread in other.arms.items() if spread}
    missing = None if primary else "nothing is measured"
    return MapCell(directory.name, levels, experiment, primary, training, missing)


def _kind(score: ScoreComparison) -> tuple[object, ...]:
    return score.split, score.measure, score.score, score.stratum, score.strength, score.unit


def pair_maps(cells: Sequence[MapCell]) -> list[PairMap]:
    """Return the map of every pair of arms that is compared.

    p values are corrected (Holm) for all pairs in all cells together, and those of the settings'
    effects for all effects of all pairs.
    """
    experiment = next((cell.experiment for cell in cells if cell.experiment), None)
    if experiment is None:
        return []
    arms = list(experiment.arms)
    names = comparison_spec(experiment).pairs(arms)
    pairs = {name: [_pair(cell, *name) for cell in cells] for name in names}
    p_values = [
        p.difference.p_value if p and p.difference else None for n in names for p in pairs[n]
    ]
    adjusted = iter(holm_of_known(p_values))
    effects = {name: _effects(cells, *name) for name in names}
    of_effects = [effect.p_value for found, _, _ in effects.values() for effect in found]
    adjusted_effects = iter(holm_of_known(of_effects))
    maps = []
    for a, b in names:
        differences = [
            _difference(cell, pair, next(adjusted))
            for cell, pair in zip(cells, pairs[a, b], strict=True)
        ]
        found, seeds, reason = effects[a, b]
        corrected = [replace(e, holm_p_value=next(adjusted_effects)) for e in found]
        indices = arms.index(a), arms.index(b)
        maps.append(PairMap(a, b, indices, differences, corrected, seeds, reason))
    return maps


def _pair(cell: MapCell, a: str, b: str) -> Pair | None:
    if cell.primary is None:
        return None
    return next((pair for pair in cell.primary.pairs if (pair.a, pair.b) == (a, b)), None)


def _difference(cell: MapCell, pair: Pair | None, p_value: float | None) -> CellDifference:
    """Return a cell's difference, its verdict corrected for the whole map."""
    decided = None
    higher = cell.primary.higher_is_better if cell.primary else None
    if cell.primary and pair and pair.difference and pair.verdict and higher is not None:
        decided = verdict(
            pair.difference,
            names=(pair.a, pair.b),
            higher_is_better=higher,
            margin=cell.primary.margin,
            adjusted_p_value=p_value,
        )
    return CellDifference(cell, pair, p_value, decided)


def _effects(
    cells: Sequence[MapCell], a: str, b: str
) -> tuple[list[MapEffect], list[int], str | None]:
    """Return the effects of the settings, the seeds, and the reason if there are no effects."""
    by_seed: dict[tuple[str, ...], dict[int, float]] = {}
    kinds = set()
    for cell in cells:
        if cell.primary is None:
            return [], [], f"{cell.name}: {cell.reason}"
        of_a, of_b = (cell.primary.values.get(arm, {}) for arm in (a, b))
        by_seed[tuple(cell.levels.values())] = {
            seed: x - y
            for seed, x in of_a.items()
            if x is not None and (y := of_b.get(seed)) is not None
        }
        kinds.add(_kind(cell.primary))
    if len(kinds) > 1:
        return [], [], "the cells are about different scores"
    seeds = sorted(set.intersection(*(set(found) for found in by_seed.values())))
    if len(seeds) < 2:
        return [], seeds, "fewer than two seeds have a value of both arms in every cell"
    *_, unit = next(iter(kinds))
    level = next(cell.experiment.comparison.level for cell in cells if cell.experiment)
    found = factor_effects(
        {levels: np.array([of[seed] for seed in seeds]) for levels, of in by_seed.items()},
        list(cells[0].levels),
        generator(0, "map", a, b),
        level=level,
        largest=2.0 if is_share(str(unit)) else np.inf,
    )
    effects = []
    for effect in found:
        if len(effect.factors) == 1:  # the cells show the interactions, dozens for four settings
            # An effect is first level minus second; readers follow the order of the file.
            change = effect.difference
            low, high = (None if end is None else -end for end in (change.high, change.low))
            levels = effect.levels[0]
            effects.append(
                MapEffect(effect.factors[0], *levels, -change.estimate, low, high, change.p_value)
            )
    return effects, seeds, None
