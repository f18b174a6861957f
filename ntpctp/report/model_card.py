"""Results in a model card: a section of the README and the Hub's ``model-index``."""

import re
from html import escape
from pathlib import Path
from typing import cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file
from ntpctp._core.locks import alone
from ntpctp.data.lm_eval_export import task_name
from ntpctp.measures import Score
from ntpctp.runner.evaluate_paths import CheckpointResult, TaskResult

CARD = "README.md"
_MARKUP = re.compile(r"[\\`*\[\]!~]|_(?!\w)|(?<!\w)_")
"""Characters with a meaning in Markdown, without underscores within words."""


def write_model_card(outcome: CheckpointResult) -> Path:
    """Write the results of one checkpoint into its README, created if missing; return the path.

    Two markers with the name of the suite enclose the section. All other text and all other results
    in the metadata are kept; YAML comments in the metadata are lost. If results are written to a
    directory of their own, so is the README.

    Raises:
        InputError: if the metadata of an existing README is invalid.
    """
    target = outcome.target
    beside = target.results.parent.resolve() == target.directory.resolve()
    path = (target.directory if beside else target.results) / CARD
    with alone(path.with_name(".card.lock")):  # two suites at the same time would lose one section
        _write(path, outcome)
    return path


def _write(path: Path, outcome: CheckpointResult) -> None:
    suite = outcome.suite or "experiment"
    text = _read(path)
    try:
        card = ModelCard(text)
    except Exception as error:  # invalid YAML, or invalid fields of a model card
        raise InputError(f"{path}: invalid metadata: {error}. Fix or remove it") from (error)
    data = cast(ModelCardData, card.data)
    others = [
        result
        for result in data.eval_results or []
        if not (result.dataset_type.startswith(task_name("")) and result.dataset_config == suite)
    ]
    own = [
        _eval_result(measured, score, suite)
        for measured in outcome.measured
        for score in measured.scores
        if score.value is not None and score.stratum is None and score.strength is None
    ]
    data.eval_results = [*others, *own]
    if not data.model_name:
        data.model_name = outcome.target.directory.resolve().name
    card.text = _with_section(card.text, suite, _section(outcome, suite))
    with atomic_file(path) as temporary:
        temporary.write_text(str(card), "utf-8", newline="")


def _read(path: Path) -> str:
    """Return the README's text, with an empty block of metadata if it has none."""
    if not path.is_file():
        return "---\n{}\n---\n"
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    return text if re.match(r"\s*---\r?\n", text) else f"---\n{{}}\n---\n{text}"


def _eval_result(measured: TaskResult, score: Score, suite: str) -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=task_name(measured.name),
        dataset_name=measured.name,
        dataset_config=suite,
        dataset_split=score.split,
        metric_type=score.score,
        metric_value=score.value,
        metric_name=f"{score.score} ({score.unit})",
    )


def _with_section(text: str, suite: str, section: str) -> str:
    """Replace the section of ``suite``, or add it at the end."""
    begin, end = f"<!-- ntpctp results: {suite} -->", f"<!-- end of ntpctp results: {suite} -->"
    whole = f"{begin}\n{section}{end}"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if opened and closed:
        return f"{before}{whole}{after}"
    gap = "\n" if not text or text.endswith("\n") else "\n\n"
    return f"{text}{gap}{whole}\n"


def _cell(text: str) -> str:
    """Return text of the user's data as one cell of a Markdown table, without markup."""
    return _MARKUP.sub(r"\\\g<0>", escape(" ".join(text.replace("|", "/").split()), quote=False))


def _section(outcome: CheckpointResult, suite: str) -> str:
    columns = "| task | split | score | value | standard error | unit | items |"
    lines = [f"## Results ({suite})", "", columns, "|---|---|---|---:|---:|---|---:|"]
    for measured in outcome.measured:
        for score in measured.scores:
            name = score.score
            if score.strength is not None:
                name += f" at {score.strength:g}"
            if score.stratum is not None:
                name += f", {score.stratum}"
            value = f"null: {score.reason}" if score.value is None else f"{score.value:.4g}"
            error = "" if score.standard_error is None else f"{score.standard_error:.2g}"
            cells = measured.name, score.split, name, value, error, score.unit, f"{score.count}"
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join([*lines, "", "Measured by ntpctp; the standard error is over items.", ""])
