"""The whole answer over several experiments, as objects and as what is written or printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ntpctp.analysis.comparison import comparison_record
from ntpctp.analysis.joins.groups import ExperimentGroup, group_by_data, notes_on_data
from ntpctp.analysis.joins.stored_experiments import experiments_in, read_stored
from ntpctp.analysis.joins.task_aggregates import LIMITS, TaskAggregates, aggregate_tasks
from ntpctp.statistics import Profile


@dataclass(frozen=True)
class JoinResult:
    """Experiments by the data that they were made on, and the aggregates over tasks.

    Attributes:
        groups: of experiments on the same data.
        over: aggregates; None where there is one task, or nothing to aggregate.
        notes: on what is not joined across groups, and why.
    """

    groups: list[ExperimentGroup]
    over: TaskAggregates | None
    notes: list[str]


def join(directories: Sequence[Path]) -> JoinResult:
    """Join experiments from what is stored in their directories, which stay as they are.

    Arms on the same data are paired by seed and item, with Holm's correction over all of their
    pairs on a score. Tasks stand side by side, with aggregates over those arms that all of them
    have.

    Raises:
        InputError: as ``experiments_in`` and ``read_stored``.
    """
    groups = group_by_data(read_stored(experiments_in(directories)))
    if len(groups) == 1:
        return JoinResult(groups, None, [])
    over, notes = aggregate_tasks(groups)
    return JoinResult(groups, over, notes_on_data(groups) + notes)


def joined_record(joined: JoinResult) -> dict[str, Any]:
    """Return all of it as JSON has it."""
    return {
        "groups": [
            {
                **comparison_record(group.label, group.spec, group.comparisons),
                "experiments": [
                    {
                        "name": source.experiment.name,
                        "directory": str(source.directory),
                        "data_fingerprint": source.data,
                    }
                    for source in group.sources
                ],
                "differing_settings": group.differing,
                "notes": group.notes,
            }
            for group in joined.groups
        ],
        "over_tasks": None if joined.over is None else _over_record(joined.over),
        "notes": joined.notes,
    }


def _over_record(over: TaskAggregates) -> dict[str, Any]:
    return {
        **{key: value for key, value in vars(over).items() if key not in ("notes", "profiles")},
        "means": {arm: asdict(mean) for arm, mean in over.means.items()},
        "profiles": {arm: _profile(profile) for arm, profile in over.profiles.items()},
        "improvements": [asdict(improvement) for improvement in over.improvements],
        "limits": list(LIMITS),
    }


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        key: value.tolist() if hasattr(value, "tolist") else value
        for key, value in vars(profile).items()
    }
