"""The report of many runs in a browser: its size, and the time until it can be read.

    python scripts/bench/report.py [--quick] [--json FILE]

10 arms x 10 seeds x 20 checkpoints with the default measures, simulated as in comparing.py. The
page is opened in a headless Chromium, each time with a new profile; the time is from the start of
the navigation until the visible figures are drawn. The peer is the same page with all figures drawn
at once, as for printing. Needs Debian's chromium and chromium-driver, and selenium.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from compared_problem import make, simulated
from measuring import Record, write_records
from rich.console import Console
from rich.table import Table
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.config import load_output
from ntpctp.report.html import write_report

MOST_SECONDS, MOST_MEGABYTES = 2.0, 8.0
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
# Records when the visible figures are drawn: the page's own script then marks the root element.
_WATCH = """
new MutationObserver(() => {
  const root = document.documentElement;
  if (root && root.dataset.drawn && !window.inSight) window.inSight = performance.now();
}).observe(document, {subtree: true, attributes: true, attributeFilter: ["data-drawn"]});
"""
_ALL = """
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const start = performance.now();
dispatchEvent(new Event("beforeprint"));
return [performance.now() - start, document.querySelectorAll(".plot .main-svg:first-child").length];
"""


def opened(page: Path) -> tuple[float, float, int]:
    """Return seconds until the visible figures are drawn, until all are, and their number."""
    options = webdriver.ChromeOptions()
    for flag in _FLAGS:
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        driver.set_window_size(1280, 900)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        driver.get(page.as_uri())
        while not (in_sight := driver.execute_script("return window.inSight")):
            time.sleep(0.02)
        more, count = driver.execute_script(_ALL)
        return in_sight / 1000, (in_sight + more) / 1000, count
    finally:
        driver.quit()


def written(directory: Path, arms: int, seeds: int, items: int, checkpoints: int) -> Path:
    """Simulate results in ``directory`` and write their report."""
    make(directory, simulated(arms, seeds, items, checkpoints))
    experiment = load_output(directory)
    frame, comparisons = compare_experiment(experiment, directory)
    write_report(experiment, frame, comparisons, directory, directory / "report.html")
    return directory / "report.html"


def records(page: Path, repetitions: int) -> list[Record]:
    """Return the size and the times of the page."""
    size = page.stat().st_size / 1e6
    runs = [opened(page) for _ in range(repetitions + 1)][1:]  # the first fills the disk cache
    in_sight, everything = (statistics.median(run[place] for run in runs) for place in (0, 1))
    return [
        {
            "name": "size of the page", "ours": size, "peer": MOST_MEGABYTES,
            "peer_name": "goal", "unit": "MB", "ratio": MOST_MEGABYTES / size,
            "goal": MOST_MEGABYTES, "met": size < MOST_MEGABYTES,
        },
        {
            "name": "opened: figures in sight drawn", "ours": in_sight, "peer": everything,
            "peer_name": f"all {runs[0][2]} figures at once", "unit": "s",
            "ratio": everything / in_sight, "goal": MOST_SECONDS, "met": in_sight < MOST_SECONDS,
        },
    ]  # fmt: skip


def main() -> None:
    """Measure, print a table, and write the rows if requested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 arms, 4 seeds, 5 checkpoints")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = (4, 4, 100, 5) if arguments.quick else (10, 10, 500, 20)
    with tempfile.TemporaryDirectory() as folder:
        page = written(Path(folder) / "simulated", *size)
        found = records(page, 3 if arguments.quick else 7)
    table = Table("", "ours", "peer", "", "ratio", "goal", "met")
    for row in found:
        ours, peer = (f"{row[key]:.3g} {row['unit']}" for key in ("ours", "peer"))
        goal, met = f"{row['goal']:g} {row['unit']}", "yes" if row["met"] else "NO"
        table.add_row(row["name"], ours, peer, row["peer_name"], f"{row['ratio']:.2f}", goal, met)
    Console().print(table)
    if arguments.json:
        write_records(arguments.json, found, ("plotly", "selenium"))


if __name__ == "__main__":
    main()
