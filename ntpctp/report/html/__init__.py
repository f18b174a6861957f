"""The HTML report: one self-contained page, made from files only."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ntpctp._core.files import atomic_file
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html.page import render


def write_report(
    experiment: Experiment,
    frame: pd.DataFrame,
    comparisons: Sequence[ScoreComparison],
    output: Path,
    path: Path,
) -> None:
    """Write the page of the experiment in the directory ``output`` to ``path``, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(render(experiment, frame, comparisons, output), "utf-8")
