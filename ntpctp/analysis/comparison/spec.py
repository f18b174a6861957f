"""What an experiment, or several joined, ask of a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ntpctp.analysis.matched_budget import read_flops
from ntpctp.config import Experiment


@dataclass(frozen=True)
class ComparisonSpec:
    """What a comparison needs to know beside the scores: of one experiment, or of several joined.

    Attributes:
        steps: arm -> its last step; the order of the arms.
        seeds: in order.
        level: of the intervals.
        margin: per score, the difference that would not matter, in its unit.
        factors: arm -> factor -> level, of a grid; else empty.
        targets: per score, the value that seeds are to reach.
        held_out: the splits on which scores have learning curves.
        flops: arm -> step -> operations of training until there, as far as they are known.
        baseline: the arm that each other one is compared with; None: all pairs are compared.
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
        """The names."""
        return list(self.steps)

    def pairs(self, arms: Iterable[str]) -> list[tuple[str, str]]:
        """Return those pairs of ``arms`` that are compared, in the order of the arms."""
        return [
            pair for pair in combinations(arms, 2) if self.baseline is None or self.baseline in pair
        ]


def comparison_spec(experiment: Experiment, output: Path | None = None) -> ComparisonSpec:
    """Return what an experiment asks of its comparison; with its directory, its operations too."""
    return ComparisonSpec(
        {name: arm.training.steps for name, arm in experiment.arms.items()},
        experiment.seeds,
        experiment.comparison.level,
        experiment.comparison.margin,
        experiment.factors,
        experiment.comparison.targets,
        experiment.task.evaluation_splits,
        read_flops(output) if output else {},
        experiment.comparison.baseline,
    )
