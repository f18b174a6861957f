"""Join several experiments: pair arms on the same data, aggregate arms over tasks."""

from ntpctp.analysis.joins.groups import ExperimentGroup
from ntpctp.analysis.joins.record import JoinResult, join, joined_record
from ntpctp.analysis.joins.stored_experiments import StoredExperiment
from ntpctp.analysis.joins.task_aggregates import TaskAggregates

__all__ = [
    "ExperimentGroup",
    "JoinResult",
    "StoredExperiment",
    "TaskAggregates",
    "join",
    "joined_record",
]
