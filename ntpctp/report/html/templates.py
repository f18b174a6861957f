"""The templates of pages, and the script that draws their figures."""

import base64
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ntpctp.report.html.tables import Table

MOST_CELLS = 600
"""Largest table behind a figure that is not compressed, so it is readable without scripts."""


def environment() -> Environment:
    """Return the environment of this package's templates.

    It escapes everything but markup, and raises an error for unknown names.
    """
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def packed(text: str) -> Markup:
    """Return a text compressed by zlib, in base64: ASCII without ``<``, which the page unpacks.

    The result has a third of the size and takes tens of milliseconds to unpack.
    """
    return Markup(base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii"))


class Pack:
    """The compressed content of a page: figures, and long tables behind them.

    A page of a hundred runs has a hundred thousand cells in such tables. Each is unpacked when the
    reader opens it, so that the page itself opens fast.
    """

    def __init__(self) -> None:
        self._content: dict[str, dict[str, Any]] = {"figures": {}, "tables": {}, "axes": {}}

    def is_long(self, table: Table) -> bool:
        """Whether a table behind a figure is compressed."""
        return len(table.rows) * len(table.columns) > MOST_CELLS

    def figure(self, name: str, figure: dict[str, Any]) -> str:
        """Keep a figure under the name of its element; return an empty string for the template."""
        self._content["figures"][name] = figure
        return ""

    def table(self, name: str, markup: Markup) -> str:
        """Keep a rendered table; return an empty string for the template."""
        self._content["tables"][name] = str(markup)
        return ""

    def axes(self, axes: dict[str, Any]) -> str:
        """Keep the other axes of learning curves; return an empty string for the template."""
        self._content["axes"] = axes
        return ""

    def text(self) -> Markup:
        """Return the content, compressed."""
        return packed(json.dumps(self._content, separators=(",", ":")))


@cache
def plotly_script() -> Markup:
    """Return plotly's script, compressed."""
    return packed(get_plotlyjs())
