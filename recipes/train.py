"""Train one run, an arm of an experiment with a seed, in the processes of `accelerate launch`.

accelerate launch recipes/train.py recipes/quickstart.yaml --arm ntp --seed 0
"""

import argparse
from pathlib import Path

from ntpctp._core.runtime import go_offline, quiet_libraries
from ntpctp.cli import clear_errors
from ntpctp.runner.train_one import train_one


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="the experiment file (YAML)")
    parser.add_argument("overrides", nargs="*", help="fields to change, as dotted.key=value")
    parser.add_argument("--arm", required=True, help="name of the arm")
    parser.add_argument("--seed", type=int, required=True, help="the seed")
    parser.add_argument("--stage", help="name of the stage, if the experiment has stages")
    parser.add_argument(
        "--output", type=Path, help="directory of the results; by default runs/<name>"
    )
    parser.add_argument("--offline", action="store_true", help="do not use the network")
    arguments = parser.parse_intermixed_args()
    quiet_libraries()
    if arguments.offline:
        go_offline()
    with clear_errors():
        train_one(
            arguments.experiment,
            arguments.overrides,
            arguments.arm,
            arguments.seed,
            arguments.output,
            arguments.stage,
        )


if __name__ == "__main__":
    main()
