"""All sections of a page: numeric factors of the grid, measures, paths between arms."""

from pathlib import Path

import pandas as pd

from ntpctp.config import Experiment
from ntpctp.report.html.by_category import edit_panels, stratum_panels
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.landscape import landscape_panels
from ntpctp.report.html.loss_barrier import path_sections
from ntpctp.report.html.matched_loss import matched_loss_panels
from ntpctp.report.html.response_curves import response_sections
from ntpctp.report.html.sections import Section, measure_sections


def all_sections(
    experiment: Experiment, frame: pd.DataFrame, output: Path, chance_levels: ChanceLevels
) -> list[Section]:
    """Return all sections, those of measures with their figures over other axes than steps."""
    of_measures = measure_sections(experiment, frame, chance_levels)
    for section in of_measures:
        if section.name == "landscape":
            section.panels[:0] = landscape_panels(experiment, output)
        elif section.name == "accuracy":
            section.more[:0] = stratum_panels(experiment, frame, chance_levels)
        elif section.name == "flatness":
            section.panels.extend(matched_loss_panels(experiment, output))
        elif section.name == "edits":
            section.panels[:0] = edit_panels(experiment, frame)
    by_factor = response_sections(experiment, frame, chance_levels)
    return by_factor + of_measures + path_sections(experiment, output)
