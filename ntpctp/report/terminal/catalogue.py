"""Tasks and measures in the terminal: options, splits, examples with the roles of their text."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pydantic import BaseModel
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ntpctp._core.errors import lookup
from ntpctp.config import block_of
from ntpctp.data.example import Example
from ntpctp.data.tasks import TASKS, Task
from ntpctp.measures import MEASURES

_STYLES = {"text": "", "reasoning": "cyan", "assistant": "yellow", "answer": "bold green"}


def task_table(names: Sequence[str] = ()) -> Table:
    """Return the options of the named tasks with defaults and meaning; of all if none is named.

    Raises:
        InputError: for an unknown name.
    """
    kinds: list[tuple[str, type[BaseModel]]] = []
    for name in names or TASKS:
        kind = lookup(TASKS, name, "task")
        if not any(field.is_required() for field in kind.model_fields.values()):
            # With default options; some options add splits.
            splits = kind.model_validate({"name": name}).evaluation_splits
            name = "\n".join([name, "  train", *(f"  {split}" for split in splits)])
        kinds.append((name, kind))
    return _options_table("task, splits", kinds)


def measure_table(names: Sequence[str] = ()) -> Table:
    """Return the options of the named measures with defaults and meaning; of all if none is named.

    Raises:
        InputError: for an unknown name.
    """
    kinds: list[tuple[str, type[BaseModel]]] = []
    for name in names or MEASURES:
        kind = lookup(MEASURES, name, "measure")
        kinds.append((name if kind.by_default else f"{name}\n  (on request)", kind))
    return _options_table("measure", kinds)


def _options_table(heading: str, kinds: Sequence[tuple[str, type[BaseModel]]]) -> Table:
    table = Table(heading, "option", "default", "meaning")
    for first, kind in kinds:
        options = ((name, field) for name, field in kind.model_fields.items() if name != "name")
        for index, (option, field) in enumerate(options):
            default = repr(field.get_default(call_default_factory=True))
            table.add_row(
                Text("" if index else first),
                option,
                Text("(required)" if field.is_required() else default),
                Text(field.description or ""),
            )
        table.add_section()
    return table


def task_of(name: str, options: Sequence[str]) -> Task:
    """Return the task ``name`` with ``key=value`` options.

    Raises:
        InputError: for an unknown name or option, or a value that is not allowed.
    """
    return block_of(lookup(TASKS, name, "task"), name, options)


def examples_of(task: Task, split: str, number: int) -> Iterator[RenderableType]:
    """Yield the splits with their sizes, then the first examples of ``split``.

    Raises:
        InputError: for an unknown split, or raised by the task.
    """
    names = ("train", *task.evaluation_splits)
    chosen = task.split(lookup({n: n for n in names}, split, f"split of {task.name}"))
    sizes = ", ".join(f"{name} {len(task.split(name)):,}" for name in names)
    yield Text(f"{task.name}: {sizes} examples")
    for index, example in enumerate(islice(chosen, number)):
        yield Text(f"\n{split} example {index}{f' ({example.source})' if example.source else ''}")
        yield _roles(example)


def _roles(example: Example) -> Table:
    table = Table.grid(padding=(0, 2))
    pieces: list[tuple[str, str]] = [(s.role, s.text) for s in example.segments]
    for index, message in enumerate(example.messages, start=1):
        last = index == len(example.messages)
        role = "answer" if last and message.role == "assistant" else message.role
        pieces.append((role, " ".join(filter(None, [message.content, message.more]))))
    for role, text in pieces:
        table.add_row(Text(role), _marked(text, _STYLES.get(role, "dim")))
    extras: dict[str, Any] = {
        "choices": " | ".join(example.choices),
        "references": ", ".join(f"{name}: {answer}" for name, answer in example.references),
        "critical": _critical(example),
        "tools": example.tools,
    }
    for name, value in extras.items():
        if value:
            table.add_row(Text(f"({name})"), Text(value))
    return table


def _marked(text: str, style: str) -> Text:
    """Return the text with visible line breaks and a visible space at its end."""
    shown = text.replace("\n", "\u21b5\n").removesuffix("\n")
    return Text(shown, style) + (Text("\u2423", "dim") if shown.endswith(" ") else Text())


def _critical(example: Example) -> str:
    """Return the parts of the text that the data mark as critical."""
    text = "".join(segment.text for segment in example.segments)
    return " | ".join(text[start:end] for start, end in example.spans)
