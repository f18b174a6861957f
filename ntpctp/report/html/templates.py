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
"""Of a table behind a figure that stands in the page as it is, for those without scripts too."""


def environment() -> Environment:
    """Return the environment of this package's templates.

    It escapes everything that is not markup already, and refuses names that it does not know.
    """
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def packed(text: str) -> Markup:
    """Return a text as the page unpacks it: compressed by zlib, in base64; of ASCII without ``<``.

    A third of the size, for some tens of milliseconds when the page is opened.
    """
    return Markup(base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii"))


class Pack:
    """What a page holds packed: its figures, and long tables behind them.

    A page of a hundred runs has a hundred thousand cells in such tables. They are unpacked when
    they are opened, so that the page need not be made of them before it can be read.
    """

    def __init__(self) -> None:
        self._content: dict[str, dict[str, Any]] = {"figures": {}, "tables": {}, "axes": {}}

    def is_long(self, table: Table) -> bool:
        """Whether a table behind a figure waits to be unpacked."""
        return len(table.rows) * len(table.columns) > MOST_CELLS

    def figure(self, name: str, figure: dict[str, Any]) -> str:
        """Keep a figure under the name that its place on the page has; return nothing to show."""
        self._content["figures"][name] = figure
        return ""

    def table(self, name: str, markup: Markup) -> str:
        """Keep a table that the template has made; return nothing to show."""
        self._content["tables"][name] = str(markup)
        return ""

    def axes(self, found: dict[str, Any]) -> str:
        """Keep where learning curves can stand; return nothing to show."""
        self._content["axes"] = found
        return ""

    def text(self) -> Markup:
        """Return everything, packed."""
        return packed(json.dumps(self._content, separators=(",", ":")))


@cache
def plotly_script() -> Markup:
    """Return plotly's script, packed."""
    return packed(get_plotlyjs())
