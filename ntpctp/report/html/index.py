"""``index.html``: one row for every experiment below a directory, with its verdict."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file
from ntpctp._core.layout import checkpoint_directory, experiments_below, stage_directory
from ntpctp._core.text import plural
from ntpctp.analysis.comparison import COMPARISON, read_comparisons
from ntpctp.analysis.primary import primary_score
from ntpctp.config import Experiment, load_output
from ntpctp.report.html import wording
from ntpctp.report.html.headline import headline, label_of, question_of
from ntpctp.report.html.templates import environment

INDEX = "index.html"
REPORT = "report.html"


@dataclass(frozen=True)
class Entry:
    """One row of the index.

    Attributes:
        path: of the experiment's directory, relative to the index.
        link: of its report, relative to the index; empty without a report.
        name: of the experiment, or of its directory if the experiment cannot be read.
        question: of the experiment.
        verdict: the headline, or why there is no verdict.
        tone: of the verdict; ``missing``: no verdict.
        score: the primary score.
        arms: name and mean of each arm on that score.
        seeds: number of seeds.
        date: day of the comparison, in UTC.
    """

    path: str
    link: str
    name: str
    question: str
    verdict: str
    tone: Literal["better", "same", "open", "missing"]
    score: str
    arms: list[tuple[str, str]]
    seeds: int | None
    date: str


def write_index(directory: Path) -> Path:
    """Write ``index.html`` over all experiments below ``directory``, atomically; return it.

    Nothing is recomputed: verdicts are read from each ``comparison.json``. Unfinished and
    unreadable experiments have the reason instead.

    Raises:
        InputError: if there is no experiment below ``directory``.
    """
    entries = [_entry(path, directory) for path in experiments_below(directory)]
    page = (
        environment()
        .get_template("index.html.j2")
        .render(
            entries=entries,
            title=directory.resolve().name,
            num_open=sum(entry.tone == "missing" for entry in entries),
        )
    )
    with atomic_file(directory / INDEX) as temporary:
        temporary.write_text(page, "utf-8")
    return directory / INDEX


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
    question, seeds = question_of(experiment), len(experiment.seeds)

    def without_verdict(reason: str) -> Entry:
        arms = [(name, "") for name in experiment.arms]
        return Entry(
            relative, link, experiment.name, question, reason, "missing", "", arms, seeds, ""
        )

    if unfinished := _unfinished(experiment, path):
        return without_verdict(unfinished)
    try:
        comparisons = read_comparisons(path)
    except InputError as error:
        return without_verdict(str(error))
    primary = primary_score(experiment, comparisons)
    head = headline(experiment, primary)
    spreads = {} if primary is None else primary.arms
    unit = "" if primary is None else primary.unit
    levels = [
        (
            name,
            wording.NO_VALUE if (s := spreads.get(name)) is None else wording.value(s.mean, unit),
        )
        for name in experiment.arms
    ]
    compared = datetime.fromtimestamp((path / COMPARISON).stat().st_mtime, UTC)
    return Entry(
        relative,
        link,
        experiment.name,
        question,
        head.verdict,
        head.tone,
        "" if primary is None else f"{label_of(primary)} ({wording.shown_unit(unit)})",
        levels,
        seeds,
        compared.strftime("%Y-%m-%d"),
    )


def _unfinished(experiment: Experiment, output: Path) -> str:
    """Return how many runs have reached their last step; an empty string if all have."""
    runs = experiment.runs()
    lasts = (
        checkpoint_directory(stage_directory(output, run), experiment.arms[run.arm].training.steps)
        for run in runs
    )
    finished = sum(last.is_dir() for last in lasts)
    if finished == len(runs):
        return ""
    return (
        f"unfinished: {finished} of {plural(len(runs), 'run')} have their last checkpoint; "
        "the same `ntpctp run` command resumes it"
    )
