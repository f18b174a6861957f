"""``map.html`` and ``map.json``: the better arm in every cell of a map."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ntpctp._core.files import write_json
from ntpctp.report.html import map_tables, wording
from ntpctp.report.html.figures import NUM_COLOURS
from ntpctp.report.html.headline import label_of, question_of
from ntpctp.report.html.map_cells import CellDifference, MapCell, PairMap, pair_maps, read_cells
from ntpctp.report.html.map_figure import map_panel
from ntpctp.report.html.panel import Panel
from ntpctp.report.html.templates import Pack, plotly_script, write_page

PAGE, RECORD = "map.html", "map.json"
_OF_DIFFERENCE = ("estimate", "low", "high", "level", "p_value", "num_seeds", "num_items")


def write_map_page(output: Path) -> tuple[Path, list[str]]:
    """Write ``map.html`` and ``map.json`` of the map in ``output``.

    Returns:
        The path of the page, and one sentence for every pair of arms.

    Raises:
        InputError: if ``output`` is not the directory of a map.
    """
    name, cells = read_cells(output)
    maps = pair_maps(cells)
    first = next((cell.experiment for cell in cells if cell.experiment), None)
    names = [cell.name for cell in cells if (output / cell.name / "report.html").is_file()]
    summaries = [map_tables.summary(of_pair) for of_pair in maps]
    write_json(output / RECORD, _record(name, cells, maps))
    page = write_page(
        "map.html.j2",
        output / PAGE,
        name=name,
        question=question_of(first) if first else name,
        arms=list(first.arms) if first else [],
        level=wording.percent(first.comparison.level) if first else "",
        num_colours=NUM_COLOURS,
        num_cells=len(cells),
        maps=[
            (words, _panel(of_pair), map_tables.effects_table(of_pair), of_pair.reason)
            for words, of_pair in zip(summaries, maps, strict=True)
        ],
        cells=map_tables.cells_table(cells),
        links=[(cell, f"./{quote(cell)}/report.html") for cell in names],
        pack=Pack(),
        plotly=plotly_script(),
    )
    return page, summaries


def map_panels(output: Path) -> dict[str, Panel]:
    """Return, by name, the figure of every pair of arms with a difference in some cell.

    Raises:
        InputError: if ``output`` is not the directory of a map.
    """
    _, cells = read_cells(output)
    panels = {f"map-{found.a}-against-{found.b}": _panel(found) for found in pair_maps(cells)}
    return {name: panel for name, panel in panels.items() if panel is not None}


def _panel(found: PairMap) -> Panel | None:
    known = any(map_tables.estimate_of(entry) is not None for entry in found.cells)
    return map_panel(found) if known else None


def _record(name: str, cells: Sequence[MapCell], maps: Sequence[PairMap]) -> dict[str, Any]:
    return {
        "map": name,
        "cells": [
            {
                "cell": cell.name,
                "levels": dict(cell.levels),
                "score": label_of(cell.primary) if cell.primary else None,
                "unit": cell.primary.unit if cell.primary else None,
                "values": cell.primary.values if cell.primary else None,
                "training": dict(cell.training),
                "reason": cell.reason,
            }
            for cell in cells
        ],
        "pairs": [
            {
                "a": of_pair.a,
                "b": of_pair.b,
                "cells": [_difference_record(entry) for entry in of_pair.cells],
                "effects": [asdict(effect) for effect in of_pair.effects],
                "seeds": of_pair.seeds,
                "reason": of_pair.reason,
            }
            for of_pair in maps
        ],
    }


def _difference_record(entry: CellDifference) -> dict[str, Any]:
    result = entry.pair.difference if entry.pair else None
    return {
        "cell": entry.cell.name,
        **{key: getattr(result, key) if result else None for key in _OF_DIFFERENCE},
        "holm_p_value": entry.holm_p_value,
        "verdict": map_tables.stored_words(entry),
        "better": entry.better,
        "reason": entry.cell.reason or (entry.pair.reason if entry.pair else None),
    }
