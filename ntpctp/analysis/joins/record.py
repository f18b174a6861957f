"""The result of joining several experiments, as objects and as JSON."""

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
    """Experiments grouped by their data, and aggregates over tasks.

    Attributes:
        groups: experiments on the same data.
        over: aggregates over the groups' tasks; None with one group, or if none can be computed.
        notes: what is not joined across groups, and why.
    """

    groups: list[ExperimentGroup]
    over: TaskAggregates | None
    notes: list[str]


def join(directories: Sequence[Path]) -> JoinResult:
    """Join experiments from the files in their directories, which are not changed.

    Arms on the same data are paired by seed and item, with Holm's correction over all of their
    pairs on a score. Different data form separate groups, with aggregates over the arms that all
    groups share.

    Raises:
        InputError: as ``experiments_in`` and ``read_stored``.
    """
    groups = group_by_data(read_stored(experiments_in(directories)))
    if len(groups) == 1:
        return JoinResult(groups, None, [])
    over, notes = aggregate_tasks(groups)
    return JoinResult(groups, over, notes_on_data(groups) + notes)


def joined_record(joined: JoinResult) -> dict[str, Any]:
    """Return the result as a JSON object."""
    return {
        "groups": [
            {
                **comparison_record(group.label, group.spec, group.comparisons),
                "experiments": [
                    {
                        "name": stored.experiment.name,
                        "directory": str(stored.directory),
                        "data_fingerprint": stored.data,
                    }
                    for stored in group.experiments
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
