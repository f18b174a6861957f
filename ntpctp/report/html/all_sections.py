"""All sections of a page: numeric factors of the grid, measures, paths between arms."""

from dataclasses import replace
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
    of_measures = [
        _with_more(section, experiment, frame, output, chance_levels)
        for section in measure_sections(experiment, frame, chance_levels)
    ]
    by_factor = response_sections(experiment, frame, chance_levels)
    return by_factor + of_measures + path_sections(experiment, output)


def _with_more(
    section: Section,
    experiment: Experiment,
    frame: pd.DataFrame,
    output: Path,
    chance_levels: ChanceLevels,
) -> Section:
    if section.name == "landscape":
        return replace(section, panels=[*landscape_panels(experiment, output), *section.panels])
    if section.name == "accuracy":
        return replace(
            section, more=[*stratum_panels(experiment, frame, chance_levels), *section.more]
        )
    if section.name == "flatness":
        return replace(section, panels=[*section.panels, *matched_loss_panels(experiment, output)])
    if section.name == "edits":
        return replace(section, panels=[*edit_panels(experiment, frame), *section.panels])
    return section
