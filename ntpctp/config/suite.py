"""A suite: tasks and measures for checkpoints of any origin.

name: quick
tasks:                                   # for checkpoints outside experiments
  prontoqa: prontoqa
  sums: {name: addition, digits: 2}
measures: [{name: accuracy, max_items: 100}]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from ntpctp._core.errors import InputError
from ntpctp._core.options import Name, Options
from ntpctp._core.yaml_loader import read_yaml
from ntpctp.config.messages import error_messages, summary_of
from ntpctp.config.overrides import apply_override
from ntpctp.config.schema import AnyMeasure, AnyTask


class Suite(Options):
    """A named set of tasks and measures."""

    name: Name = Field(description="name of the directory of results beside a checkpoint")
    tasks: dict[Name, AnyTask] = Field(
        default_factory=dict,
        description="tasks by a name of your choice; empty: the task of the experiment",
    )
    own_task: bool = Field(
        True,
        description="whether runs of an experiment are measured on the experiment's task instead "
        "of tasks",
    )
    measures: list[AnyMeasure] = Field(
        min_length=1, description="names of measures, or blocks with options"
    )
    tokenizer: str | None = Field(
        None, description="directory or Hub id; by default the tokenizer of the checkpoint"
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="tokens of one forward pass, padding included; null: as many as fit"
    )
    too_long: Literal["error", "drop", "trim_prompt"] = Field(
        "error",
        description="examples longer than the context of the model, see DataOptions",
    )

    @model_validator(mode="after")
    def _check(self) -> "Suite":
        names = [measure.name for measure in self.measures]
        if len(set(names)) < len(names):
            raise ValueError(f"a measure is listed twice: {names}")
        if not self.own_task and not self.tasks:
            raise ValueError("own_task: false needs tasks: there is no other task to measure on")
        return self


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Read and validate the file of a suite.

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
        messages = error_messages(error.errors(include_url=False), content, lines, file=Suite)
    raise InputError(summary_of(messages, str(path)))
