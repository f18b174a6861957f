"""The templates of pages, and the script that draws their figures."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs


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


def plotly_script() -> Markup:
    """Return plotly's script, safe inside a script element."""
    script = get_plotlyjs()
    if "</script" in script.lower():
        raise RuntimeError("plotly's script would end the element that holds it")
    return Markup(script)
