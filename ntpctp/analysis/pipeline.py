"""From measured checkpoints to ``scores.parquet`` and ``comparison.json``."""

from pathlib import Path

import pandas as pd

from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.analysis.comparison import ScoreComparison, compare, write_comparison
from ntpctp.analysis.scores import write_scores
from ntpctp.config import Experiment


def compare_experiment(
    experiment: Experiment, output: Path
) -> tuple[pd.DataFrame, list[ScoreComparison]]:
    """Write ``scores.parquet`` and ``comparison.json`` from the measured checkpoints."""
    frame = collect(experiment, output)
    write_scores(frame, output)
    comparisons = compare(experiment, frame, output)
    write_comparison(experiment, comparisons, output)
    return frame, comparisons
