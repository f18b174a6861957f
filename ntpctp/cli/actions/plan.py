"""Print what an experiment will cost."""

from collections.abc import Callable, Mapping

import torch

from ntpctp.cli.console import console
from ntpctp.config import Experiment
from ntpctp.config.stages import Stages
from ntpctp.config.sweep import Sweep
from ntpctp.report.terminal.plans import map_plan_table, plan_table, plan_time
from ntpctp.runner.budget import with_steps
from ntpctp.runner.experiment import default_workers
from ntpctp.runner.plan import ArmPlan, matmul_rate, plan
from ntpctp.runner.prepare import prepare

_Planned = tuple[dict[str, ArmPlan], dict[str, int]]
"""Plan of one run of every arm, and the number of runs of every arm."""


def print_plan(
    loaded: Experiment | Stages | Sweep,
    workers: int | None,
    flops_per_second: float | None,
    processes: int,
) -> None:
    """Print the cost of an experiment, of each of its stages, or of all cells of a sweep.

    Args:
        loaded: the experiment file.
        workers: concurrent runs; by default as many as ``ntpctp run`` would start here.
        flops_per_second: peak of the device; None: this machine's rate is measured.
        processes: that share each run.
    """
    torch.set_num_threads(1)
    if isinstance(loaded, Sweep):
        experiments = loaded.experiments
    else:
        experiments = loaded.from_scratch() if isinstance(loaded, Stages) else {"": loaded}
    rate = flops_per_second or matmul_rate()
    # Runs that each have a device, or several, to themselves follow one another.
    exclusive = flops_per_second is not None or processes > 1
    resources = next(iter(experiments.values())).resources
    concurrent = workers or (1 if exclusive else default_workers(resources))

    def time(planned: Mapping[str, _Planned], num_runs: int) -> str:
        flops = sum(_flops(each) for each in planned.values())
        num_workers = min(concurrent, num_runs)
        return plan_time(flops, rate, num_workers, processes, flops_per_second is None)

    if isinstance(loaded, Sweep):
        cells = {name: _planned(e, processes) for name, e in experiments.items()}
        console.print(map_plan_table(loaded.levels, list(cells.values())))
        num_runs = sum(next(iter(cells.values()))[1].values())
        console.print(time(cells, num_runs), soft_wrap=True)
    else:
        _print_stages(experiments, loaded, processes, time)


def _print_stages(
    experiments: Mapping[str, Experiment],
    loaded: Experiment | Stages,
    processes: int,
    time: Callable[[Mapping[str, _Planned], int], str],
) -> None:
    for stage, experiment in experiments.items():
        num_arms = loaded.num_arms(stage) if isinstance(loaded, Stages) else None
        plans, num_runs = _planned(experiment, processes, num_arms)
        if stage:
            console.rule(f"stage {stage}")
        console.print(plan_table(plans, num_runs))
        console.print(time({stage: (plans, num_runs)}, sum(num_runs.values())), soft_wrap=True)


def _planned(
    experiment: Experiment, processes: int, num_arms: Mapping[str, int] | None = None
) -> _Planned:
    """Plan one experiment.

    Args:
        experiment: what to plan.
        processes: that share each run.
        num_arms: arm -> how many arms it stands for; by default one each.
    """
    experiment = with_steps(experiment)
    plans = plan(experiment, prepare(experiment), processes)
    num_arms = num_arms or dict.fromkeys(plans, 1)
    return plans, {arm: number * len(experiment.seeds) for arm, number in num_arms.items()}


def _flops(planned: _Planned) -> float:
    plans, num_runs = planned
    return sum(num_runs[arm] * arm_plan.flops for arm, arm_plan in plans.items())
