"""All tasks but ``mixture``, by name."""

from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.files.csv_file import CsvFile
from ntpctp.data.tasks.files.dataset import Dataset
from ntpctp.data.tasks.files.function import PythonFunction
from ntpctp.data.tasks.files.jsonl import JsonLines
from ntpctp.data.tasks.files.parquet_file import ParquetFile
from ntpctp.data.tasks.published.published import Published
from ntpctp.data.tasks.synthetic.addition import Addition
from ntpctp.data.tasks.synthetic.anchor import Anchor
from ntpctp.data.tasks.synthetic.chain import Chain
from ntpctp.data.tasks.synthetic.gym import Gym
from ntpctp.data.tasks.synthetic.kinship import Kinship
from ntpctp.data.tasks.synthetic.modular import Modular
from ntpctp.data.tasks.synthetic.parity import Parity
from ntpctp.data.tasks.synthetic.prontoqa import PrOntoQA
from ntpctp.data.tasks.synthetic.prosqa import ProsQA
from ntpctp.data.tasks.synthetic.ruletaker import RuleTaker
from ntpctp.data.tasks.synthetic.simple_logic import SimpleLogic

SINGLE_TASKS: dict[str, type[Task]] = {
    "addition": Addition,
    "anchor": Anchor,
    "chain": Chain,
    "csv": CsvFile,
    "dataset": Dataset,
    "gym": Gym,
    "jsonl": JsonLines,
    "kinship": Kinship,
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
