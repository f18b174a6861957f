"""The results of `ntpctp calibrate`: error rates of the verdicts on these runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ntpctp.analysis.calibration import read_calibration
from ntpctp.report.html.tables import Table, TableCell
from ntpctp.report.html.wording import SPACE, percent


def calibration_section(output: Path) -> dict[str, Any] | None:
    """Return a sentence and the rates behind it, of ``calibration.json``; None if it is missing."""
    record = read_calibration(output)
    if record is None:
        return None
    titles = {
        "false_positives": "False positives: comparisons within one arm (A/A) that name a winner",
        "coverage": "Coverage: intervals of two arms that contain the known difference",
    }
    by_name = {name: record[name] for name in titles if record[name]}
    return {
        "verdict": record["verdict"],
        "tables": [_table(titles[name], rates) for name, rates in by_name.items()],
        "methods": [f"{titles[name]}: {rates[-1]['method']}." for name, rates in by_name.items()],
        "left_out": record["left_out"],
    }


def _table(title: str, rates: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("seeds", "stored seeds", "comparisons", "rate", "for normal scores", "nominal")
    table = Table(title, columns)
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
