"""The templates of pages, and the script that draws their figures."""

import base64
import json
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ntpctp._core.files import atomic_file
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


def write_page(template: str, path: Path, **content: Any) -> Path:
    """Write a page from its template, atomically; return its path."""
    with atomic_file(path) as temporary:
        temporary.write_text(environment().get_template(template).render(**content), "utf-8")
    return path


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

    def keep(self, kind: str, content: Mapping[str, Any]) -> str:
        """Keep figures or rendered tables by the names of their elements, or axes of curves.

        The returned empty string is for the template.
        """
        self._content[kind].update(content)
        return ""

    def text(self) -> Markup:
        """Return the content, compressed."""
        return packed(json.dumps(self._content, separators=(",", ":")))


@cache
def plotly_script() -> Markup:
    """Return plotly's script, compressed."""
    return packed(get_plotlyjs())
