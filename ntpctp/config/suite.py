"""A suite: what is measured on checkpoints, whoever trained them.

name: quick
tasks:                                   # for checkpoints that are not an experiment's
  prontoqa: prontoqa
  sums: {name: addition, digits: 2}
measures: [{name: accuracy, max_items: 100}]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from ntpctp._core.errors import InputError
from ntpctp._core.options import Choice, Name, Options
from ntpctp._core.yaml_loader import read_yaml
from ntpctp.config import apply_override
from ntpctp.config.messages import messages_of
from ntpctp.data.tasks import TASKS, Task
from ntpctp.measures import MEASURES, Measure

AnyTask: TypeAlias = SerializeAsAny[Annotated[Task, Choice(TASKS)]]
AnyMeasure: TypeAlias = SerializeAsAny[Annotated[Measure, Choice(MEASURES)]]


class Suite(Options):
    """Tasks and measures under a name."""

    name: Name = Field(description="of the directory of results beside a checkpoint")
    tasks: dict[Name, AnyTask] = Field(
        default_factory=dict, description="by a name of your choice; none: those of experiments"
    )
    own_task: bool = Field(
        True,
        description="whether the runs of an experiment are measured on its own task, not on tasks",
    )
    measures: list[AnyMeasure] = Field(min_length=1, description="names, or blocks with options")
    tokenizer: str | None = Field(
        None, description="directory or hub id; by default the checkpoint's own"
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="tokens of one forward pass, padding included; null: as many as fit"
    )
    too_long: Literal["error", "drop", "trim_prompt"] = Field(
        "error", description="examples longer than the model's context, see DataOptions"
    )

    @model_validator(mode="after")
    def _sound(self) -> "Suite":
        names = [measure.name for measure in self.measures]
        if len(set(names)) < len(names):
            raise ValueError(f"a measure stands twice: {names}")
        if not self.own_task and not self.tasks:
            raise ValueError("own_task: false needs tasks, or there is nothing to measure on")
        return self


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and validate a suite's file.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors, each with its line and field.
    """
    content, lines = read_yaml(path)
    for override in overrides:
        lines.pop(apply_override(content, override), None)
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        messages = messages_of(error.errors(include_url=False), content, lines, file=Suite)
    raise InputError(
        f"{path}: {len(messages)} error{'s' if len(messages) > 1 else ''}\n"
        + "\n".join(f"  {message}" for message in messages)
    )
