"""Tasks, the sources of examples: one file per task; ``TASKS`` lists them by name."""

from ntpctp.data.example import ROLES, Example, Message, Role, Segment
from ntpctp.data.leakage import check_disjoint, check_unseen
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.files.csv_file import CsvFile
from ntpctp.data.tasks.files.dataset import Dataset
from ntpctp.data.tasks.files.function import PythonFunction
from ntpctp.data.tasks.files.jsonl import JsonLines
from ntpctp.data.tasks.files.parquet_file import ParquetFile
from ntpctp.data.tasks.mixture import Mixture
from ntpctp.data.tasks.published.published import Published
from ntpctp.data.tasks.single import SINGLE_TASKS
from ntpctp.data.tasks.synthetic.addition import Addition
from ntpctp.data.tasks.synthetic.anchor import Anchor
from ntpctp.data.tasks.synthetic.chain import Chain
from ntpctp.data.tasks.synthetic.gym import Gym, score_answer
from ntpctp.data.tasks.synthetic.kinship import Kinship
from ntpctp.data.tasks.synthetic.modular import Modular
from ntpctp.data.tasks.synthetic.parity import Parity
from ntpctp.data.tasks.synthetic.prontoqa import PrOntoQA
from ntpctp.data.tasks.synthetic.prosqa import ProsQA
from ntpctp.data.tasks.synthetic.ruletaker import RuleTaker
from ntpctp.data.tasks.synthetic.simple_logic import SimpleLogic

TASKS: dict[str, type[Task]] = {**SINGLE_TASKS, "mixture": Mixture}

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
