r"""A file of the user with one JSON object per line.

{"prompt": "2+2=", "answer": "4"}
{"prompt": "Is 7 prime?\n", "answer": "yes", "choices": ["yes", "no"]}
{"prompt": "3+4+5=", "reasoning": "3+4=7, 7+5=12", "answer": "12"}
{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ntpctp._core.files import read_numbered_jsonl
from ntpctp.data.tasks.files.own import OwnFile, UserRow


class JsonLines(OwnFile):
    """Examples from a file with one JSON object per line."""

    name: Literal["jsonl"] = "jsonl"

    def _rows(self, split: str) -> Iterator[UserRow]:
        path = self._source(split)
        for number, row in read_numbered_jsonl(Path(path)):
            yield f"{path}, line {number}", row
