"""Calibration of the verdicts as tables."""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ntpctp.report.terminal.titled import titled

_COMPARED = ("seeds", "stored seeds", "comparisons", "rate")


def calibration_tables(record: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the rates of ``calibration.json``, then its verdict in one sentence."""
    for name, title, note in (
        ("false_positives", "false positives: comparisons within one arm (A/A)", "95 % interval"),
        (
            "coverage",
            "coverage: intervals that contain the known difference",
            "of resampling alone",
        ),
    ):
        table = titled(title, right=(*_COMPARED, note, "for normal scores", "nominal"))
        for rate in record[name]:
            table.add_row(
                *(str(rate[key]) for key in ("num_seeds", "num_stored", "num_comparisons")),
                f"{rate['rate']:.1%}",
                f"{rate['low']:.1%} to {rate['high']:.1%}",
                f"{rate['of_normal']:.1%}",
                f"{100 * rate['nominal']:g}%",
            )
        if table.rows:
            yield table
            yield Text(record[name][-1]["method"], style="dim")
    for words in record["left_out"]:
        yield Text(f"excluded: {words}", style="yellow")
    yield Text(record["verdict"], style="bold")
