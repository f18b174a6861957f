"""Print which tokens the loss sees."""

from ntpctp.cli.console import console
from ntpctp.config import Experiment
from ntpctp.config.stages import Stages
from ntpctp.report.terminal.supervision import audit_tables, weighted_tokens
from ntpctp.runner.audit import audit, first_tokens
from ntpctp.runner.prepare import prepare


def print_audit(loaded: Experiment | Stages, num_examples: int, as_json: bool) -> None:
    """Print the first examples token by token for every arm, and counts of supervised tokens.

    Args:
        loaded: an experiment, or the stages of one.
        num_examples: how many examples to print.
        as_json: print the counts alone, as JSON.
    """
    staged = isinstance(loaded, Stages)
    experiments = loaded.from_scratch() if isinstance(loaded, Stages) else {"": loaded}
    prepared = {stage: prepare(experiment) for stage, experiment in experiments.items()}
    records = {s: audit(experiment, prepared[s]) for s, experiment in experiments.items()}
    if as_json:
        console.print_json(data=records if staged else records[""])
        return
    for stage, experiment in experiments.items():
        if staged:
            console.rule(f"stage {stage}")
        for tokens in first_tokens(experiment, prepared[stage], num_examples):
            console.print(
                weighted_tokens(list(experiment.arms), tokens, console.color_system is not None),
                soft_wrap=True,
            )
        for table in audit_tables(records[stage]):
            console.print(table)
