"""The page in a real browser: figures drawn, no error, nothing wider than a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--dump-dom",
]

# Put into a copy of the page: waits until all is drawn, then tells the frame around it.
PROBE = """
<script>
window.addEventListener("error", (event) => { root().dataset.failed = event.message; });
function root() { return document.documentElement; }
(function wait() {
  if (root().dataset.drawn !== "yes" && !root().dataset.failed) { setTimeout(wait, 50); return; }
  const plots = Array.from(document.querySelectorAll(".plot"));
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  if (window.Plotly) Plotly.Fx.hover(plots[0], [{ curveNumber: 0, pointNumber: 1 }]);
  setTimeout(() => parent.postMessage({
    failed: root().dataset.failed || null,
    plots: plots.length,
    drawn: plots.filter((plot) => plot.querySelector(".scatterlayer path")).length,
    widest: root().scrollWidth,
    visible: root().clientWidth,
    hover: (document.querySelector(".hovertext") || {}).textContent || "",
    paper: getComputedStyle(document.body).backgroundColor,
    marker: getComputedStyle(plots[0].querySelector(".points path")).fill,
    alerts: window.alerts || 0,
  }, "*"), 300);
})();
</script>
"""

FRAME = """<!doctype html><body>
<iframe src="page.html" style="width:{width}px;height:900px;border:0"></iframe><pre></pre><script>
addEventListener("message", (event) => {{
  document.querySelector("pre").textContent = JSON.stringify(event.data);
}});
</script></body>
"""


@pytest.fixture(scope="module")
def directory(usual_page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("browser")
    counted = "<script>window.alert = () => { window.alerts = (window.alerts || 0) + 1; };</script>"
    page = usual_page.replace("<body>", f"<body>{counted}").replace("</body>", f"{PROBE}</body>")
    (directory / "page.html").write_text(page, "utf-8")
    return directory


def open_page(directory: Path, width: int, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """Return what the page tells about itself at ``width``, and the console's lines."""
    frame = directory / f"frame-{width}.html"
    frame.write_text(FRAME.format(width=width), "utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            *flags,
            f"--user-data-dir={directory / 'profile'}",
            f"--window-size={max(width, 500)},900",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = re.search(r"<pre>(.+?)</pre>", done.stdout)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert told, f"the page did not finish: {console}"
    return json.loads(html.unescape(told[1])), console


def test_on_a_phone(directory: Path) -> None:
    told, console = open_page(directory, 390)
    assert console == [] and told["failed"] is None
    assert told["visible"] == 390 and told["widest"] == 390
    assert told["drawn"] == told["plots"] == 7
    assert told["alerts"] == 0
    assert re.match(r"ntp, seed 1: [\d.]+\s%", told["hover"])
    assert told["paper"] == "rgb(255, 255, 255)" and told["marker"] == "rgb(0, 114, 178)"


def test_in_the_dark(directory: Path) -> None:
    told, console = open_page(directory, 1280, "--blink-settings=preferredColorScheme=0")
    assert console == [] and told["failed"] is None
    assert told["widest"] == told["visible"] == 1280
    assert told["drawn"] == told["plots"] == 7
    assert told["paper"] == "rgb(20, 23, 28)" and told["marker"] == "rgb(86, 180, 233)"
