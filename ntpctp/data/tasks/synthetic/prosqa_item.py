"""Items of ProsQA in the published format, their wording, and the reader of published files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.files import read_json
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.synthetic.prosqa_path import shortest_path

_MARKER = "Answer: "


def fact(subject: str, kind: str) -> str:
    """Return a fact in the published wording, with "a" before every word ("a impus")."""
    return f"{'' if subject[0].isupper() else 'Every '}{subject} is a {kind}."


def ask(person: str, first: str, second: str) -> str:
    """Return the question in the published wording."""
    return f"Is {person} a {first} or {second}?"


class ProsQAItem(BaseModel):
    """One question with its graph, in the fields of the published files.

    Nodes are numbered; ``edges`` holds [node, kind it is]. Further fields are ignored.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    question: str
    answer: str
    steps: list[str] = Field(min_length=1)
    idx_to_symbol: list[str]
    # In JSON a pair is a list.
    edges: list[Annotated[tuple[int, int], Field(strict=False)]]
    root: int
    target: int
    neg_target: int

    @model_validator(mode="after")
    def _text_agrees_with_graph(self) -> "ProsQAItem":
        names = self.idx_to_symbol
        for field in ("root", "target", "neg_target"):
            if not 0 <= getattr(self, field) < len(names):
                raise ValueError(
                    f"{field} is {getattr(self, field)}, but idx_to_symbol has {len(names)} entries"
                )
        right, wrong = names[self.target], names[self.neg_target]
        asked = [ask(names[self.root], *pair) for pair in ((right, wrong), (wrong, right))]
        if not self.question.endswith(tuple(asked)):
            raise ValueError(
                f"expected question to end with {asked[0]!r} or {asked[1]!r}, to agree with root, "
                f"target and neg_target, found {self.question[-60:]!r}"
            )
        if self.answer != fact(names[self.root], right):
            raise ValueError(
                f"expected answer {fact(names[self.root], right)!r}, to agree with root and "
                f"target, found {self.answer!r}"
            )
        return self

    def example(self, reasoning: bool, source: str = "") -> Example:
        """Return the item as an example, with choices in the order of the question.

        The stratum ``hops`` is the length of the shortest path from the person to the correct kind;
        an item of a file without such a path has no stratum.
        """
        root, right, wrong = (
            self.idx_to_symbol[node] for node in (self.root, self.target, self.neg_target)
        )
        pair = (right, wrong) if self.question.endswith(ask(root, right, wrong)) else (wrong, right)
        path = shortest_path(self.edges, self.root, self.target)
        steps = Segment("reasoning", "\n".join([*self.steps, _MARKER]))
        return Example(
            (
                Segment("prompt", self.question + "\n"),
                *([steps] if reasoning else []),
                Segment("answer", self.answer),
            ),
            choices=(fact(root, pair[0]), fact(root, pair[1])),
            answer_marker=_MARKER if reasoning else "",
            source=source,
            strata=() if path is None else (("hops", str(len(path))),),
        )


def read(path: Path) -> list[tuple[ProsQAItem, str]]:
    """Read a published file: its items, each with its source for messages.

    Raises:
        InputError: if the file is invalid; names file, item (counted from 1) and field.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected a ProsQA file (JSON), found no such file")
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f"{path}: expected a JSON list of at least one ProsQA item, found "
            f"{'an empty list' if rows == [] else type(rows).__name__}"
        )
    return [
        (_item(row, where), where)
        for row, where in ((row, f"{path}, item {k}") for k, row in enumerate(rows, start=1))
    ]


def _item(row: Any, where: str) -> ProsQAItem:
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}")
    try:
        return ProsQAItem.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing":
            message = f"field {field!r} is missing{nearest(field, row)} (found: {', '.join(row)})"
        elif field:
            message = f"field {field!r}: {problem['msg']}, found {str(problem['input'])[:80]!r}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {message}") from error
