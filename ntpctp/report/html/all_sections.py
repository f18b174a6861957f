"""The sections of a page: what the grid varies, every measure, and the paths between arms."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from ntpctp.config import Experiment
from ntpctp.report.html.by_category import edits_panels, strata_panels
from ntpctp.report.html.chance_level import Chances
from ntpctp.report.html.landscape import landscape_panels
from ntpctp.report.html.loss_barrier import path_sections
from ntpctp.report.html.matched_loss import equal_loss_panels
from ntpctp.report.html.response_curves import response_sections
from ntpctp.report.html.sections import Section, measure_sections


def all_sections(
    experiment: Experiment, frame: pd.DataFrame, output: Path, chances: Chances
) -> list[Section]:
    """Return all sections; those of measures with their figures that are not over steps, too."""
    of_measures = [
        _with_more(section, experiment, frame, output, chances)
        for section in measure_sections(experiment, frame, chances)
    ]
    by_factor = response_sections(experiment, frame, chances)
    return by_factor + of_measures + path_sections(experiment, output)


def _with_more(
    section: Section, experiment: Experiment, frame: pd.DataFrame, output: Path, chances: Chances
) -> Section:
    if section.name == "landscape":
        return replace(section, panels=[*landscape_panels(experiment, output), *section.panels])
    if section.name == "accuracy":
        return replace(section, more=[*strata_panels(experiment, frame, chances), *section.more])
    if section.name == "flatness":
        return replace(section, panels=[*section.panels, *equal_loss_panels(experiment, output)])
    if section.name == "edits":
        return replace(section, panels=[*edits_panels(experiment, frame), *section.panels])
    return section
