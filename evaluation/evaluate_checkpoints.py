"""Measure checkpoints, trained by this or any other program; several processes share the work.

accelerate launch evaluation/evaluate_checkpoints.py runs/quickstart --measures flatness
accelerate launch evaluation/evaluate_checkpoints.py MODEL --suite evaluation/suites/quick.yaml
"""

import argparse
from pathlib import Path

from ntpctp._core.runtime import go_offline, quiet_libraries
from ntpctp.cli import clear_errors
from ntpctp.config.suite import load_suite
from ntpctp.report.formats import outputs
from ntpctp.runner.evaluate_paths import evaluate_paths


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="directories of experiments, runs or checkpoints")
    parser.add_argument(
        "--measures",
        nargs="*",
        default=[],
        help="names; by default the measures of the suite or run",
    )
    parser.add_argument("--suite", type=Path, help="tasks and measures (YAML)")
    parser.add_argument(
        "--output", type=Path, help="directory of the results; by default beside the checkpoints"
    )
    parser.add_argument(
        "--format", help="also write results in the format of another tool: lm-eval"
    )
    parser.add_argument(
        "--model-card",
        action="store_true",
        help="also write a model card (README.md) into each checkpoint",
    )
    parser.add_argument("--offline", action="store_true", help="do not use the network")
    arguments = parser.parse_intermixed_args()
    quiet_libraries()
    if arguments.offline:
        go_offline()
    with clear_errors():
        evaluate_paths(
            arguments.paths,
            arguments.measures,
            suite=load_suite(arguments.suite) if arguments.suite else None,
            output=arguments.output,
            then=outputs(arguments.format, arguments.model_card),
        )


if __name__ == "__main__":
    main()
