"""Read an experiment file: apply overrides, complete the arms, and report all errors at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT
from ntpctp._core.yaml_loader import FieldPath, read_yaml
from ntpctp.config.effects import check_overrides
from ntpctp.config.inheritance import arms_of_grid, with_inherited
from ntpctp.config.messages import error_messages, summary_of
from ntpctp.config.overrides import apply_override
from ntpctp.config.schema import Experiment


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors, each with its line and field.
    """
    content, lines = read_yaml(path)
    for block, part in (("stages", "stage"), ("map", "cell")):
        if block in content:
            raise InputError(
                f"{path}: has {block}; expected a single experiment. Start the file with `ntpctp "
                f"run`, or name the experiment of one {part}: <output>/<{part}>/experiment.yaml"
            )
    for override in overrides:
        lines.pop(apply_override(content, override), None)
    check_overrides(content, str(path), overrides)
    return experiment_of(content, str(path), lines)


def load_output(output: Path) -> Experiment:
    """Read the experiment that an output directory belongs to.

    Raises:
        InputError: if ``output`` is not the directory of an experiment.
    """
    path = output / EXPERIMENT
    if not path.is_file():
        raise InputError(f"{output}: not an experiment's directory: it has no {EXPERIMENT}")
    content, lines = read_yaml(path)
    return experiment_of(content, str(path), lines)


def experiment_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Experiment:
    """Validate the content of an experiment file.

    Args:
        content: as YAML gives it.
        source: named in messages.
        lines: line of every field, by path.

    Raises:
        InputError: one message with all errors.
    """
    grid = content.get("grid", ())
    content, lines = arms_of_grid(content, source, lines or {})
    try:
        return Experiment.model_validate(with_inherited(content))
    except ValidationError as error:
        messages = error_messages(error.errors(include_url=False), content, lines, grid)
    raise InputError(summary_of(messages, source))
