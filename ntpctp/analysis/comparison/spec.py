"""Settings of a comparison, from one experiment or several joined ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ntpctp.analysis.matched_budget import read_flops
from ntpctp.config import Experiment


@dataclass(frozen=True)
class ComparisonSpec:
    """Settings that a comparison needs beside the scores.

    Attributes:
        steps: arm -> its last step; its keys give the order of the arms.
        seeds: in order.
        level: of the intervals.
        margin: score -> largest difference that does not matter, in the unit of the score.
        factors: arm -> factor -> level, for a grid; else empty.
        targets: score -> the value that a seed has to reach.
        held_out: the splits on which scores have learning curves.
        flops: arm -> step -> FLOPs of training up to that step, as far as known.
        baseline: the arm that all others are compared with; None: all pairs are compared.
    """

    steps: Mapping[str, int]
    seeds: Sequence[int]
    level: float
    margin: Mapping[str, float]
    factors: Mapping[str, Mapping[str, str]]
    targets: Mapping[str, float]
    held_out: Sequence[str]
    flops: Mapping[str, Mapping[int, float]]
    baseline: str | None = None

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return list(self.steps)

    def pairs(self, arms: Iterable[str]) -> list[tuple[str, str]]:
        """Return the pairs of ``arms`` that are compared, in the order of the arms."""
        return [
            pair for pair in combinations(arms, 2) if self.baseline is None or self.baseline in pair
        ]


def comparison_spec(experiment: Experiment, output: Path | None = None) -> ComparisonSpec:
    """Return the settings of an experiment; ``flops`` only if its directory is given."""
    return ComparisonSpec(
        steps={name: arm.training.steps for name, arm in experiment.arms.items()},
        seeds=experiment.seeds,
        level=experiment.comparison.level,
        margin=experiment.comparison.margin,
        factors=experiment.factors,
        targets=experiment.comparison.targets,
        held_out=experiment.task.evaluation_splits,
        flops=read_flops(output) if output else {},
        baseline=experiment.comparison.baseline,
    )
