"""``index.html``: one row for every experiment below a directory, with its verdict."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ntpctp._core.errors import InputError
from ntpctp._core.layout import experiments_below
from ntpctp._core.text import plural
from ntpctp.analysis.comparison import COMPARISON, read_comparisons
from ntpctp.analysis.primary import primary_score
from ntpctp.config import Experiment, load_output
from ntpctp.report.html import wording
from ntpctp.report.html.headline import headline, label_of, question_of, spread_mean
from ntpctp.report.html.inputs import last_checkpoint
from ntpctp.report.html.templates import write_page

INDEX = "index.html"
REPORT = "report.html"


@dataclass(frozen=True)
class Entry:
    """One row of the index."""

    path: str  # of the experiment's directory, relative to the index
    link: str  # of its report, relative to the index; empty without a report
    name: str  # of the experiment, or of its directory if the experiment cannot be read
    question: str  # of the experiment
    verdict: str  # the headline, or why there is no verdict
    tone: Literal["better", "same", "open", "missing"]  # of the verdict; ``missing``: no verdict
    score: str  # the primary score
    arms: list[tuple[str, str]]  # name and mean of each arm on that score
    seeds: int | None  # number of seeds
    date: str  # day of the comparison, in UTC


def write_index(directory: Path) -> Path:
    """Write ``index.html`` over all experiments below ``directory``, atomically; return it.

    Nothing is recomputed: verdicts are read from each ``comparison.json``. Unfinished and
    unreadable experiments have the reason instead.

    Raises:
        InputError: if there is no experiment below ``directory``.
    """
    entries = [_entry(path, directory) for path in experiments_below(directory)]
    num_open = sum(entry.tone == "missing" for entry in entries)
    title = directory.resolve().name
    return write_page(
        "index.html.j2", directory / INDEX, entries=entries, title=title, num_open=num_open
    )


def _entry(path: Path, top: Path) -> Entry:
    relative = path.relative_to(top).as_posix()
    # "./": otherwise a colon in the first part would be read as a URL scheme.
    report = path / REPORT
    link = f"./{quote(report.relative_to(top).as_posix())}" if report.is_file() else ""
    try:
        experiment = load_output(path)
    except InputError as error:
        reason = f"cannot be read: {error}"
        return Entry(relative, link, path.name, "", reason, "missing", "", [], None, "")
    head = relative, link, experiment.name, question_of(experiment)
    seeds = len(experiment.seeds)
    reason, comparisons = _unfinished(experiment, path), []
    if not reason:
        try:
            comparisons = read_comparisons(path)
        except InputError as error:
            reason = str(error)
    if reason:
        empty = [(name, "") for name in experiment.arms]
        return Entry(*head, reason, "missing", "", empty, seeds, "")
    primary = primary_score(experiment, comparisons)
    answer = headline(experiment, primary)
    score, levels = "", [(name, wording.NO_VALUE) for name in experiment.arms]
    if primary is not None:
        score = f"{label_of(primary)} ({wording.shown_unit(primary.unit)})"
        means = ((name, spread_mean(primary, name)) for name in experiment.arms)
        levels = [(name, wording.value(mean, primary.unit)) for name, mean in means]
    compared = datetime.fromtimestamp((path / COMPARISON).stat().st_mtime, UTC)
    day = compared.strftime("%Y-%m-%d")
    return Entry(*head, answer.verdict, answer.tone, score, levels, seeds, day)


def _unfinished(experiment: Experiment, output: Path) -> str:
    """Return how many runs have reached their last step; an empty string if all have."""
    runs = experiment.runs()
    finished = sum(last_checkpoint(experiment, output, run).is_dir() for run in runs)
    if finished == len(runs):
        return ""
    return (
        f"unfinished: {finished} of {plural(len(runs), 'run')} have their last checkpoint; "
        "the same `ntpctp run` command resumes it"
    )
