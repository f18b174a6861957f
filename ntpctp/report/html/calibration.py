"""What `ntpctp calibrate` found, if it was asked: is the machine honest on these very runs?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp.analysis.calibration import read_calibration
from ntpctp.report.html.tables import Table, TableCell
from ntpctp.report.html.wording import SPACE, percent


@dataclass(frozen=True)
class CalibrationSection:
    """One sentence, and the rates behind it."""

    verdict: str
    tables: list[Table]
    methods: list[str]
    left_out: Sequence[str]


def calibration_section(output: Path) -> CalibrationSection | None:
    """Return what ``calibration.json`` says; None where there is none."""
    record = read_calibration(output)
    if record is None:
        return None
    titles = {
        "false_positives": "A/A: how often two halves of one arm's seeds are called different",
        "coverage": "How often the interval of two arms holds a difference that is known",
    }
    found = {name: record[name] for name in titles if record[name]}
    return CalibrationSection(
        record["verdict"],
        [_table(titles[name], rates) for name, rates in found.items()],
        [f"{titles[name]}: {rates[-1]['method']}." for name, rates in found.items()],
        record["left_out"],
    )


def _table(title: str, rates: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title, ("seeds", "of stored", "comparisons", "rate", "normal scores", "nominal"))
    for rate in rates:
        table.add(
            *(str(rate[key]) for key in ("num_seeds", "num_stored", "num_comparisons")),
            TableCell(_share(rate["rate"]), f"{_share(rate['low'])} to {_share(rate['high'])}"),
            _share(rate["of_normal"]),
            percent(round(rate["nominal"], 6)),
        )
    return table


def _share(x: float) -> str:
    return f"{100 * x:.1f}{SPACE}%"
