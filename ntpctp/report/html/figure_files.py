"""Every figure of the page as a file for papers: light colours, one column wide."""

import copy
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.analysis.primary import primary_score
from ntpctp.config import Experiment
from ntpctp.report.html.all_sections import all_sections
from ntpctp.report.html.appendix import loss_panels
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.figures import escaped, line, mark
from ntpctp.report.html.inputs import read_logs
from ntpctp.report.html.overview import overview_panel
from ntpctp.report.html.panel import Panel

WIDTH = 336
"""Pixels of 1/96 inch: 3.5 inches, the column of a paper in two columns."""
WIDE = 672
"""Both columns."""
_FONT = {"family": "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif", "size": 10}
_LEGEND_LINE = 18
"""Height of a line of the legend, pixels."""
_LETTER = 6
"""Width of a letter of an axis's title, pixels."""
_SHRINK = 0.8
"""Factor for the heights on the page, where figures are twice as wide."""
_COLOUR = re.compile(r"var\((--[\w-]+)\)")
_NEEDS = "{}. --figures draws with kaleido in Chrome or Chromium (the report needs neither). {}"


def named_panels(
    experiment: Experiment,
    frame: pd.DataFrame,
    comparisons: Sequence[ScoreComparison],
    output: Path,
) -> dict[str, Panel]:
    """Return every figure of the page by its file name.

    ``accuracy-test-exact-match``: section of the page, split, score.
    """
    chance_levels = ChanceLevels(experiment, output)
    top = overview_panel(experiment, primary_score(experiment, comparisons), chance_levels)
    found: dict[str, Panel] = {"overview": top} if top else {}
    for section in all_sections(experiment, frame, output, chance_levels):
        for panel in (*section.panels, *section.more):
            score, _, split = panel.title.rpartition(", ")
            words = (section.name, split, score) if score else (section.name, panel.title)
            found[_free(_slug("-".join(words)), found)] = panel
    for panel in loss_panels(experiment, read_logs(experiment, output)):
        found[_free(_slug(f"training-{panel.title}"), found)] = panel
    return found


def write_figures(
    panels: Mapping[str, Panel], arms: Sequence[str], folder: Path, format_name: str
) -> list[Path]:
    """Write each figure to ``folder``/<name>.<format> (svg, pdf or png), atomically.

    Starting the browser takes about one second, each figure a few tenths of a second.

    Raises:
        InputError: if kaleido or its browser is not installed; then no file is written.
    """
    try:
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError:
        install = "Install it with: pip install 'ntpctp[figures]'"
        raise InputError(_NEEDS.format("kaleido is not installed", install)) from None
    written = []
    try:
        # mathjax=False: kaleido would download it, and no figure has formulas.
        kaleido.start_sync_server(n=1, mathjax=False, silence_warnings=True)
        for name, panel in panels.items():
            figure = paper_figure(panel, arms)
            form = {key: figure["layout"][key] for key in ("width", "height")}
            form |= {"scale": 4} if format_name == "png" else {}  # 384 dots an inch
            data = kaleido.calc_fig_sync(figure, opts={"format": format_name, **form})
            path = folder / f"{name}.{format_name}"
            with atomic_file(path) as temporary:
                temporary.write_bytes(data)
            written.append(path)
    except ChromeNotFoundError:
        install = (
            "Install one (Debian: apt-get install chromium), or set the environment variable "
            "BROWSER_PATH to it"
        )
        raise InputError(_NEEDS.format("no browser was found", install)) from None
    finally:
        kaleido.stop_sync_server(silence_warnings=True)
    return written


def paper_figure(panel: Panel, arms: Sequence[str]) -> dict[str, Any]:
    """Return a panel's figure for a file: with a title of its value axis, a legend, and colours."""
    figure = copy.deepcopy(panel.figure)
    layout = figure["layout"]
    layout |= {"width": WIDE if panel.wide else WIDTH, "height": round(_SHRINK * layout["height"])}
    layout |= {"paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff"}
    layout["font"] |= _FONT
    for name, axis in layout.items():
        if name.startswith(("xaxis", "yaxis")):
            axis.setdefault("tickfont", {})["size"] = _FONT["size"]
    if panel.axis and not layout["yaxis"].get("title", {}).get("text"):
        lines = textwrap.wrap(panel.axis, layout["height"] // _LETTER)
        layout["yaxis"]["title"] = {"text": "<br>".join(map(escaped, lines)), "standoff": 6}
    if panel.legend:
        entries = list(_legend(panel, panel.lines or tuple(arms)))
        for trace in figure["data"]:
            trace["showlegend"] = False
        figure["data"] += entries
        layout["showlegend"] = bool(entries)
        layout["height"] += _LEGEND_LINE * -(-len(entries) // 3)
        layout["legend"] = {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
            "bgcolor": "rgba(0,0,0,0)",
        }  # fmt: skip
    painted: dict[str, Any] = _painted(figure)
    return painted


def _legend(panel: Panel, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield one empty trace for each arm of the figure: the entries of its legend."""
    drawn = str(panel.figure["data"])
    marks = '"markers"' in drawn.replace("'", '"')
    for index, name in enumerate(lines):
        look = line(index)
        if look["color"] in drawn:
            yield {
                "type": "scatter", "x": [None], "y": [None], "name": escaped(name),
                "mode": "markers" if marks else "lines", "line": {**look, "width": 3},
                "marker": {**mark(index), "size": 5}, "showlegend": True,
            }  # fmt: skip


@cache
def _colours() -> dict[str, str]:
    """Return the light colours of the style sheet, which stand before the dark ones."""
    style = (Path(__file__).parent / "style.css").read_text("utf-8")
    light = style[style.index(":root {") : style.index("@media")]
    return dict(re.findall(r"(--[\w-]+):\s*([^;]+);", light))


def _painted(value: Any) -> Any:
    if isinstance(value, str):
        return _COLOUR.sub(lambda found: _colours()[found[1]], value)
    if isinstance(value, list):
        return [_painted(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _painted(inner) for key, inner in value.items()}
    return value


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")[:120]


def _free(name: str, taken: Mapping[str, object]) -> str:
    numbered = (f"{name}-{number}" for number in count(2))
    return next(free for free in chain([name], numbered) if free not in taken)
