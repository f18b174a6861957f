"""Take the pictures of docs/gallery.md from finished experiments.

python scripts/gallery.py runs/quickstart runs/label_noise tutorial=runs/swap-budget

Rebuilds each experiment's report and takes a picture of its top with Chromium. A picture is named
after the directory, or by the name before the equals sign. Needs Pillow and Chromium.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parents[1] / "docs/images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 300_000


def main() -> None:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="+", help="directories, or NAME=directory")
    parser.add_argument("--output", type=Path, default=PICTURES, help="directory of the pictures")
    parser.add_argument("--width", type=int, default=1200, help="width of the window in pixels")
    parser.add_argument(
        "--height", type=int, default=900, help="height of the window: the visible top of the page"
    )
    arguments = parser.parse_args()
    for given in arguments.experiments:
        name, _, directory = given.rpartition("=")
        path = Path(directory)
        if not (path / "comparison.json").is_file():
            sys.exit(f"error: {path}: expected the directory of a finished experiment")
        picture = arguments.output / f"{name or path.name}.png"
        subprocess.run([sys.executable, "-m", "ntpctp", "report", str(path)], check=True)
        take(path / "report.html", picture, arguments.width, arguments.height)
        print(f"{picture}: {picture.stat().st_size:,} bytes")


def take(page: Path, picture: Path, width: int, height: int) -> None:
    """Write a picture of the top of ``page``."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"error: expected one of {', '.join(BROWSERS)} on the path, found none")
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.png"
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--hide-scrollbars",
            "--virtual-time-budget=60000",
            f"--user-data-dir={scratch}/profile",
            f"--window-size={width},{height}",
            f"--screenshot={raw}",
        ]
        subprocess.run(
            [browser, *options, page.resolve().as_uri()], check=True, stderr=subprocess.DEVNULL
        )
        picture.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(raw) as image:
            # Keep all colours: an arm has the same colour in table and figure.
            image.convert("RGB").save(picture, optimize=True)
    if picture.stat().st_size > MOST_BYTES:
        sys.exit(f"error: {picture}: {picture.stat().st_size:,} bytes, expected {MOST_BYTES:,}")


if __name__ == "__main__":
    main()
