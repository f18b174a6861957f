"""Tasks: where examples come from. One file a task; ``TASKS`` lists them by name."""

from ntpctp.options import one_of
from ntpctp.tasks.addition import Addition
from ntpctp.tasks.anchor import Anchor
from ntpctp.tasks.chain import Chain
from ntpctp.tasks.csv_file import CsvFile
from ntpctp.tasks.dataset import Dataset
from ntpctp.tasks.example import (
    ROLES,
    Example,
    Message,
    Role,
    Segment,
    Task,
    check_disjoint,
    check_unseen,
)
from ntpctp.tasks.function import PythonFunction
from ntpctp.tasks.gym import Gym, score_answer
from ntpctp.tasks.jsonl import JsonLines
from ntpctp.tasks.kinship import Kinship
from ntpctp.tasks.mixture import Mixture, Part
from ntpctp.tasks.modular import Modular
from ntpctp.tasks.parity import Parity
from ntpctp.tasks.parquet_file import ParquetFile
from ntpctp.tasks.prontoqa import PrOntoQA
from ntpctp.tasks.prosqa import ProsQA
from ntpctp.tasks.published import Published
from ntpctp.tasks.ruletaker import RuleTaker
from ntpctp.tasks.simple_logic import SimpleLogic

TASKS: dict[str, type[Task]] = {
    "addition": Addition,
    "anchor": Anchor,
    "chain": Chain,
    "csv": CsvFile,
    "dataset": Dataset,
    "gym": Gym,
    "jsonl": JsonLines,
    "kinship": Kinship,
    "mixture": Mixture,
    "modular": Modular,
    "parity": Parity,
    "parquet": ParquetFile,
    "prontoqa": PrOntoQA,
    "prosqa": ProsQA,
    "published": Published,
    "python": PythonFunction,
    "ruletaker": RuleTaker,
    "simple_logic": SimpleLogic,
}
# A part is one of the tasks, which are only known here.
_parts = one_of({name: task for name, task in TASKS.items() if task is not Mixture})
Part.model_rebuild(_types_namespace={"AnyTask": _parts})
Mixture.model_rebuild(_types_namespace={"AnyTask": _parts})

__all__ = [
    "ROLES",
    "TASKS",
    "Addition",
    "Anchor",
    "Chain",
    "CsvFile",
    "Dataset",
    "Example",
    "Gym",
    "JsonLines",
    "Kinship",
    "Message",
    "Mixture",
    "Modular",
    "Parity",
    "ParquetFile",
    "PrOntoQA",
    "ProsQA",
    "Published",
    "PythonFunction",
    "Role",
    "RuleTaker",
    "Segment",
    "SimpleLogic",
    "Task",
    "check_disjoint",
    "check_unseen",
    "score_answer",
]
