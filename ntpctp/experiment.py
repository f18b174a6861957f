"""The experiment file as types; all of its errors are reported together.

name: addition
task: {name: addition, digits: 3, train_size: 2000}
model: {family: gpt2, layers: 2, width: 64, heads: 4}
training: {steps: 1500, batch_size: 64, learning_rate: 1e-3}
arms:
  ntp: {objective: ntp}
  ctp: {objective: ctp}
seeds: 5
evaluation: {every: 250, measures: [accuracy, robustness, flatness]}
"""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ntpctp.errors import InputError, nearest
from ntpctp.measures import MEASURES, Measure
from ntpctp.models import ModelOptions
from ntpctp.objectives import OBJECTIVES
from ntpctp.options import Options, one_of
from ntpctp.tasks import TASKS
from ntpctp.training import TrainingOptions
from ntpctp.yaml_file import FieldPath, parse_value, read_yaml

if TYPE_CHECKING:
    from ntpctp.measures import Measure as AnyMeasure
    from ntpctp.objectives import Objective as AnyObjective
    from ntpctp.tasks import Task as AnyTask
else:
    AnyTask, AnyObjective, AnyMeasure = one_of(TASKS), one_of(OBJECTIVES), one_of(MEASURES)

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _safe_name(name: Any) -> Any:
    if isinstance(name, str) and not _SAFE_NAME.fullmatch(name):
        raise ValueError(
            "expected a name of letters, digits, '.', '_' and '-' that starts with a letter or "
            f"digit (it becomes a directory), found {name!r}"
        )
    return name


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"expected at least 1 seed, found {value}")
        return list(range(value))
    return value


Name = Annotated[str, BeforeValidator(_safe_name)]


class Arm(Options):
    """One way of training. Fields other than the objective override the experiment's own."""

    objective: SerializeAsAny[AnyObjective] = Field(description="which tokens the loss sees")
    training: TrainingOptions = Field(description="fields that differ from the experiment's")
    model: ModelOptions = Field(description="fields that differ from the experiment's")


class Evaluation(Options):
    """When checkpoints are written and what is measured on each."""

    every: int | None = Field(
        None, ge=1, description="steps between checkpoints; null: only the first and the last"
    )
    measures: list[SerializeAsAny[AnyMeasure]] = Field(
        default_factory=lambda: [
            m.model_validate({"name": name}) for name, m in MEASURES.items() if m.by_default
        ],
        min_length=1,
        description="names, or blocks with options",
    )
    batch_tokens: int = Field(16_384, ge=1, description="tokens of one forward pass")

    @model_validator(mode="after")
    def _once(self) -> "Evaluation":
        names = [measure.name for measure in self.measures]
        if len(set(names)) < len(names):
            raise ValueError(f"a measure stands twice: {names}")
        return self

    def checkpoint_steps(self, steps: int) -> list[int]:
        """Return the steps at which a run of ``steps`` steps is measured."""
        return sorted({*range(self.every or steps, steps, self.every or steps), 0, steps})

    def at(self, step: int, last: int) -> list[Measure]:
        """Return the measures to take at ``step`` of a run whose last step is ``last``."""
        return [m for m in self.measures if m.at == "all" or step == last]


class DataOptions(Options):
    """What to do with examples that do not fit; whatever is done is counted and reported."""

    too_long: Literal["error", "drop", "trim_prompt"] = Field(
        "error",
        description="examples longer than the smallest context of all arms: drop them, or cut the "
        "prompt from the left; the answer is never cut",
    )
    unsupervised: Literal["error", "drop"] = Field(
        "error",
        description="training examples of which some arm's loss would see nothing; dropped ones "
        "are dropped for all arms",
    )


class Comparison(Options):
    """How arms are compared."""

    level: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    margin: dict[str, float] = Field(
        default_factory=lambda: {"exact_match": 0.01, "choice": 0.01},
        description="per score, the difference that would not matter in practice, in its unit",
    )


class Experiment(Options):
    """A question about training objectives, and everything that decides its answer."""

    name: Name = Field(description="of the output directory")
    question: str = Field("", description="one sentence for the head of the report")
    task: SerializeAsAny[AnyTask] = Field(description="where examples come from")
    data: DataOptions = Field(default_factory=DataOptions, description="see DataOptions")
    tokenizer: str | None = Field(
        None,
        description="directory or hub id, or 'characters' or 'words' for a closed vocabulary; by "
        "default the checkpoint's, else the task's own",
    )
    model: ModelOptions = Field(description="the same for all arms, unless an arm overrides it")
    training: TrainingOptions = Field(description="likewise")
    arms: dict[Name, Arm] = Field(min_length=1, description="what is compared")
    seeds: Annotated[list[int], BeforeValidator(_seeds)] = Field(
        min_length=1, description="how many (0, 1, ...), or a list of them"
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="see Evaluation")
    comparison: Comparison = Field(default_factory=Comparison, description="see Comparison")

    @model_validator(mode="after")
    def _distinct(self) -> "Experiment":
        if any(seed < 0 for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected different non-negative numbers, found {self.seeds}")
        for (first, a), (second, b) in combinations(self.arms.items(), 2):
            if a == b:
                raise ValueError(
                    f"arms: {first!r} and {second!r} are alike in every field; remove one or let "
                    "them differ (to test the comparison itself, give them different seeds in two "
                    "experiments)"
                )
        return self


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors, each with its line and field.
    """
    content, lines = read_yaml(path)
    for override in overrides:
        lines.pop(_apply(content, override), None)
    return experiment_of(content, str(path), lines)


def experiment_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Experiment:
    """Validate the content of an experiment file.

    Args:
        content: as YAML gives it.
        source: named in messages.
        lines: of the fields, by path.

    Raises:
        InputError: one message with all errors.
    """
    try:
        return Experiment.model_validate(_with_inherited(content))
    except ValidationError as error:
        messages = _messages(error.errors(include_url=False), content, lines or {})
    raise InputError(
        f"{source}: {len(messages)} error{'s' if len(messages) > 1 else ''}\n"
        + "\n".join(f"  {message}" for message in messages)
    )


def _apply(content: dict[str, Any], override: str) -> FieldPath:
    """Set a dotted key in ``content``; return its path."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(
            f"{override!r}: expected key=value with a dotted key, such as training.steps=500"
        )
    *parents, last = key.split(".")
    block = content
    for part in parents:
        inner = block.get(part)
        if isinstance(inner, str):  # a bare name stands for a block
            inner = {"name": inner}
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise InputError(f"{override!r}: {part!r} is not a block of fields but {inner!r}")
        block[part] = inner
        block = inner
    try:
        block[last] = parse_value(text)
    except Exception as error:
        raise InputError(f"{override!r}: the value is not YAML: {error}") from error
    return (*parents, last)


def _with_inherited(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what arms leave open with the experiment's own blocks."""
    merged = dict(content)
    arms = content.get("arms")
    if isinstance(arms, Mapping):
        merged["arms"] = {
            name: {
                **arm,
                **{b: _overlay(content.get(b), arm.get(b)) for b in ("training", "model")},
            }
            if isinstance(arm, Mapping)
            else arm
            for name, arm in arms.items()
        }
    return merged


def _overlay(base: Any, own: Any) -> Any:
    if own is None:
        return base
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        return {**base, **own}
    return own


def _messages(
    errors: Sequence[ErrorDetails], content: Mapping[str, Any], lines: Mapping[FieldPath, int]
) -> list[str]:
    """Put pydantic's errors into the user's words, in the order of the file."""
    found: dict[str, int] = {}
    for error in errors:
        path = _in_file(error, content)
        inherited = len(path) > 2 and path[0] == "arms" and path[2] in ("training", "model")
        if inherited and not _present(content, path[: 3 if error["type"] == "missing" else 4]):
            continue  # the same error is reported where the field stands
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        where = f"line {line}: " if line else ""
        name = ".".join(map(str, path))
        found.setdefault(f"{where}{name + ': ' if name else ''}{_words(error)}", line)
    return sorted(found, key=lambda message: found[message])


def _in_file(error: ErrorDetails, content: Any) -> FieldPath:
    """Remove from an error's place the tags that pydantic adds for the types of named blocks."""
    path: list[str | int] = []
    for index, part in enumerate(error["loc"]):
        last = index == len(error["loc"]) - 1
        if part == "[key]":
            continue
        if _holds(content, part):
            content = content[part]
        elif part in ("training", "model"):
            content = {}  # a block that an arm inherits: not in the file, but a real field
        elif not (last and error["type"] in ("missing", "extra_forbidden")):
            continue
        path.append(part)
    return tuple(path)


def _holds(content: Any, part: str | int) -> bool:
    if isinstance(content, Mapping):
        return part in content
    return isinstance(content, list) and isinstance(part, int) and part < len(content)


def _present(content: Any, path: FieldPath) -> bool:
    for part in path:
        if not _holds(content, part):
            return False
        content = content[part]
    return True


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a block of fields",
    "model_type": "a block of fields",
    "model_attributes_type": "a block of fields",
}


def _words(error: ErrorDetails) -> str:
    kind, given = error["type"], error["input"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        fields = _fields_beside(error["loc"])
        return f"unknown field{nearest(str(error['loc'][-1]), fields)}"
    if kind == "missing":
        return "missing; it has no default"
    if kind == "union_tag_invalid":
        expected = str(context["expected_tags"]).replace("'", "")
        return (
            f"unknown name {context['tag']!r}{nearest(context['tag'], expected.split(', '))} "
            f"(expected one of: {expected})"
        )
    if kind == "union_tag_not_found":
        return f"expected a name or a block with a name, found {given!r}"
    if kind in ("too_short", "too_long"):
        return f"expected at least {context.get('min_length', 1)} entry, found {len(given)}"
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}, found {given!r}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message if kind == "value_error" else f"expected {message}, found {given!r}"


def _fields_beside(loc: tuple[str | int, ...]) -> list[str]:
    """Return the valid fields of the block in which an unknown field was found."""
    tables: dict[str, Mapping[str, type[Options]]] = {
        "task": TASKS,
        "objective": OBJECTIVES,
        "measures": MEASURES,
    }
    block: type[Options] = Experiment
    blocks: dict[str, type[Options]] = {
        "model": ModelOptions,
        "training": TrainingOptions,
        "arms": Arm,
        "evaluation": Evaluation,
        "comparison": Comparison,
        "data": DataOptions,
    }
    table: Mapping[str, type[Options]] | None = None
    for part in loc[:-1]:
        if table is not None and part in table:
            block, table = table[str(part)], None
        elif part in tables:
            table = tables[str(part)]
        elif part in blocks:
            block = blocks[str(part)]
    return list(block.model_fields)
