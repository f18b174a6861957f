"""Tasks: where examples come from. One file a task; ``TASKS`` lists them by name."""

from ntpctp.tasks.addition import Addition
from ntpctp.tasks.anchor import Anchor
from ntpctp.tasks.chain import Chain
from ntpctp.tasks.example import ROLES, Example, Message, Role, Segment, Task, check_disjoint
from ntpctp.tasks.jsonl import JsonLines
from ntpctp.tasks.kinship import Kinship
from ntpctp.tasks.modular import Modular
from ntpctp.tasks.parity import Parity
from ntpctp.tasks.prontoqa import PrOntoQA
from ntpctp.tasks.prosqa import ProsQA
from ntpctp.tasks.published import Published
from ntpctp.tasks.ruletaker import RuleTaker
from ntpctp.tasks.simple_logic import SimpleLogic

TASKS: dict[str, type[Task]] = {
    "addition": Addition,
    "anchor": Anchor,
    "chain": Chain,
    "jsonl": JsonLines,
    "kinship": Kinship,
    "modular": Modular,
    "parity": Parity,
    "prontoqa": PrOntoQA,
    "prosqa": ProsQA,
    "published": Published,
    "ruletaker": RuleTaker,
    "simple_logic": SimpleLogic,
}

__all__ = [
    "ROLES",
    "TASKS",
    "Addition",
    "Anchor",
    "Chain",
    "Example",
    "JsonLines",
    "Kinship",
    "Message",
    "Modular",
    "Parity",
    "PrOntoQA",
    "ProsQA",
    "Published",
    "Role",
    "RuleTaker",
    "Segment",
    "SimpleLogic",
    "Task",
    "check_disjoint",
]
