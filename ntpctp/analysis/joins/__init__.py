"""Several experiments as one answer: arms on the same data paired, tasks side by side."""

from ntpctp.analysis.joins.groups import Group
from ntpctp.analysis.joins.over_tasks import OverTasks
from ntpctp.analysis.joins.record import Joined, join, joined_record
from ntpctp.analysis.joins.sources import Source

__all__ = ["Group", "Joined", "OverTasks", "Source", "join", "joined_record"]
