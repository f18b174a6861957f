"""Simulations of what the statistics promise: coverage and false positives at few seeds.

    python scripts/bench/intervals.py [--quick]

Prints, in percent with the error of the simulation: the coverage of the 95 % interval of
``paired_difference`` (the table of its docstring) and of main effects and interactions of a 2 x 2
grid, and how often some pair of equal arms is called better after Holm's correction. With
``--quick`` a tenth of the simulations.
"""

import argparse
from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ntpctp.statistics import factor_effects, holm
from ntpctp.statistics.difference import t_intervals

ITEMS, LEVEL = 100, 0.95
Draw = Callable[[np.random.Generator, int, int], tuple[NDArray[np.float64], float]]
"""(rng, simulations, seeds) -> differences (simulations, seeds, items), and their true mean."""


def gaussian(seed_sd: float, item_sd: float, rest_sd: float) -> Draw:
    """Return draws of the crossed random-effects model, with these standard deviations."""

    def draw(rng: np.random.Generator, count: int, seeds: int) -> tuple[NDArray[np.float64], float]:
        d = seed_sd * rng.standard_normal((count, seeds, 1))
        d = d + item_sd * rng.standard_normal((count, 1, ITEMS))
        return d + rest_sd * rng.standard_normal((count, seeds, ITEMS)), 0.0

    return draw


def logit_normal(
    rng: np.random.Generator, count: int, seeds: int
) -> tuple[NDArray[np.float64], float]:
    """Draw right and wrong items whose log-odds vary over seeds and items, B a little worse."""

    def right(shift: float) -> NDArray[np.float64]:
        logits = shift + 0.5 * rng.standard_normal((count, seeds, 1)) + items
        return (rng.random((count, seeds, ITEMS)) < special.expit(logits)).astype(np.float64)

    items = rng.standard_normal((count, 1, ITEMS))
    a, b = right(1.0), right(0.7)
    # The mean of expit over a normal of variance 0.25 + 1, by Gauss-Hermite quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    means = [special.expit(s + np.sqrt(1.25) * nodes) @ weights / weights.sum() for s in (1.0, 0.7)]
    return a - b, float(means[0] - means[1])


def collapsing(chance: float) -> Draw:
    """Return draws in which a seed of B is right in no item with probability ``chance``."""

    def draw(rng: np.random.Generator, count: int, seeds: int) -> tuple[NDArray[np.float64], float]:
        accuracy = np.where(rng.random((count, seeds, 1)) < chance, 0.0, 0.9)
        a, b = (rng.random((count, seeds, ITEMS)) < p for p in (0.9, accuracy))
        return a.astype(np.float64) - b, 0.9 * chance

    return draw


SETTINGS: dict[str, Draw] = {
    "Gaussian, seeds dominate": gaussian(1, 0.5, 1),
    "Gaussian, items dominate": gaussian(0.03, 1, 0.3),
    "Gaussian, seeds and items alike": gaussian(0.3, 0.3 * np.sqrt(20), 0.5),
    "Gaussian, interaction only": gaussian(0, 0, 1),
    "binary, logit-normal seeds and items": logit_normal,
    "binary, one of B's seeds collapses, p = 0.2": collapsing(0.2),
}


def paired(draw: Draw, seeds: int, count: int) -> float:
    """Return the coverage of the t interval over seeds and items."""
    rng = np.random.default_rng([seeds, 1])
    hits = 0
    for start in range(0, count, 500):
        d, truth = draw(rng, min(500, count - start), seeds)
        found = t_intervals(d, LEVEL)
        hits += int(np.count_nonzero((found.low <= truth) & (truth <= found.high)))
    return hits / count


def family(arms: int, seeds: int, count: int) -> float:
    """Return how often some pair of equal arms is better after Holm, seeds shared by all arms."""
    rng = np.random.default_rng([arms, seeds])
    scores = rng.standard_normal((count, seeds, arms)) + rng.standard_normal((count, seeds, 1))
    pairs = list(combinations(range(arms), 2))
    d = np.stack([scores[:, :, i] - scores[:, :, j] for i, j in pairs], axis=1)
    found = t_intervals(d[..., None], LEVEL)
    p = 2 * special.stdtr(found.degrees_of_freedom, -abs(found.estimate) / found.standard_error)
    return float(np.mean([holm(row).min() <= 1 - LEVEL for row in p]))


def factorial(seeds: int, count: int) -> tuple[float, float]:
    """Return the coverage of a main effect and of the interaction in a 2 x 2 grid."""
    rng = np.random.default_rng([seeds, 3])
    hits = np.zeros(2)
    for _ in range(count):
        common = rng.standard_normal((seeds, 1)) + rng.standard_normal((1, ITEMS))
        cells = {
            (x, y): common
            + 0.5 * (x == "b")
            + 0.3 * (x == y)
            + 0.4 * rng.standard_normal((seeds, 1))
            + rng.standard_normal((seeds, ITEMS))
            for x in "ab"
            for y in "ab"
        }
        first, _, both = factor_effects(cells, ("x", "y"), rng, level=LEVEL)
        for place, (effect, truth) in enumerate(((first, -0.5), (both, 0.6))):
            low, high = effect.difference.low, effect.difference.high
            hits[place] += low is not None and high is not None and low <= truth <= high
    return float(hits[0] / count), float(hits[1] / count)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    share = 10 if parser.parse_args().quick else 1
    count = 4000 // share
    print(f"paired_difference, coverage in % ({count} simulations, {error(count)})")
    show({name: [paired(draw, s, count) for s in (2, 3, 5, 10)] for name, draw in SETTINGS.items()})
    count = 2000 // share
    print(f"\neffects of a 2 x 2 grid, coverage in % ({count} simulations, {error(count)})")
    found = {s: factorial(s, count) for s in (3, 5, 10)}
    show({n: [found[s][k] for s in found] for k, n in enumerate(("main effect", "interaction"))})
    count = 4000 // share
    print(f"\nsome of equal arms better, in % ({count} simulations, {error(count)})")
    show({f"{arms} arms": [family(arms, s, count) for s in (3, 5, 10)] for arms in (2, 3, 5, 10)})


def error(count: int) -> str:
    """Return twice the standard error of a rate of 95 %."""
    return f"-+ {200 * np.sqrt(0.05 * 0.95 / count):.1f}"


def show(rows: dict[str, list[float]]) -> None:
    """Print rates in percent."""
    for name, rates in rows.items():
        print(f"  {name:<46}" + "".join(f"{100 * rate:7.1f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
