"""What the commands show in a terminal: the plan, progress, tables."""

from ntpctp.terminal.calibrations import calibration_tables
from ntpctp.terminal.comparisons import comparison_tables
from ntpctp.terminal.joins import joined_tables, joined_words
from ntpctp.terminal.plans import map_plan_table, plan, plan_table, plan_time
from ntpctp.terminal.progress import ProgressDisplay
from ntpctp.terminal.states import states_tables
from ntpctp.terminal.supervision import audit_tables, weighted_tokens

__all__ = [
    "ProgressDisplay",
    "audit_tables",
    "calibration_tables",
    "comparison_tables",
    "joined_tables",
    "joined_words",
    "map_plan_table",
    "plan",
    "plan_table",
    "plan_time",
    "states_tables",
    "weighted_tokens",
]
