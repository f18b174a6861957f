"""Measure checkpoints of experiments; several processes share them out.

accelerate launch evaluation/evaluate_checkpoints.py runs/quickstart --measures flatness
"""

import argparse
from pathlib import Path

from ntpctp.cli import clear_errors
from ntpctp.launch import evaluate_paths
from ntpctp.libraries import quiet_libraries


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "paths", nargs="+", type=Path, help="experiment directories, runs, or single checkpoints"
    )
    parser.add_argument(
        "--measures", nargs="*", default=[], help="names; by default those of the experiment"
    )
    arguments = parser.parse_intermixed_args()
    quiet_libraries()
    with clear_errors():
        evaluate_paths(arguments.paths, arguments.measures)


if __name__ == "__main__":
    main()
