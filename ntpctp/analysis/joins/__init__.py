"""Several experiments as one answer: arms on the same data paired, tasks side by side."""

from ntpctp.joining.groups import Group
from ntpctp.joining.over_tasks import OverTasks
from ntpctp.joining.record import Joined, join, joined_record
from ntpctp.joining.sources import Source

__all__ = ["Group", "Joined", "OverTasks", "Source", "join", "joined_record"]
