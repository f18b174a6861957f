"""The cost of a run before it starts."""

from collections.abc import Callable, Mapping, Sequence

from rich import filesize
from rich.table import Table

from ntpctp.config import Experiment
from ntpctp.runner.plan import SHARE_OF_PEAK, ArmPlan


def plan(name: str, experiments: Sequence[Experiment], output: str, how: str) -> str:
    """Return one line with the runs, the engine (``how``) and the output directory or URL.

    The cells of a map have the same arms and seeds.
    """
    arms, seeds = list(experiments[0].arms), len(experiments[0].seeds)
    cells = f"{len(experiments)} cells x " if len(experiments) > 1 else ""
    return (
        f"{name}: {cells}{len(arms)} arms ({', '.join(arms)}) x {seeds} seeds = "
        f"{len(experiments) * len(arms) * seeds} runs, {how} -> {output}"
    )


def plan_table(plans: dict[str, ArmPlan], num_runs: dict[str, int]) -> Table:
    """Return the cost of one run of every arm, and of all runs."""
    table = Table("one run", *plans, f"all {sum(num_runs.values())} runs")
    total = {
        name: sum(num_runs[arm] * getattr(arm_plan, name) for arm, arm_plan in plans.items())
        for name in ("steps", "tokens", "supervised_tokens", "flops", "checkpoints", "disk_bytes")
    }
    for label, name, shown in _PLANNED:
        values = [shown(getattr(arm_plan, name)) for arm_plan in plans.values()]
        table.add_row(label, *values, shown(total[name]) if name in total else "")
    return table


def map_plan_table(
    levels: Mapping[str, Mapping[str, str]],
    planned: Sequence[tuple[Mapping[str, ArmPlan], Mapping[str, int]]],
) -> Table:
    """Return the cost of all runs of every cell of a map, and of all cells.

    ``levels`` maps cell to field to its level; ``planned`` has the arms' plans and their numbers
    of runs, cell by cell.
    """
    fields = list(next(iter(levels.values())))
    table = Table(*fields, "runs", *(label for label, _ in _OF_MAP))
    totals = [0.0] * (1 + len(_OF_MAP))
    for of_cell, (plans, num_runs) in zip(levels.values(), planned, strict=True):
        amounts: list[float] = [sum(num_runs.values())]
        for _, name in _OF_MAP:
            amounts.append(sum(num_runs[arm] * getattr(plans[arm], name) for arm in plans))
        totals = [total + amount for total, amount in zip(totals, amounts, strict=True)]
        table.add_row(*of_cell.values(), *_shown(amounts))
    table.add_section()
    table.add_row("all cells", *[""] * (len(fields) - 1), *_shown(totals))
    return table


_OF_MAP = (("steps", "steps"), ("operations (FLOPs)", "flops"), ("on disk", "disk_bytes"))


def _shown(amounts: Sequence[float]) -> list[str]:
    *numbers, disk = amounts
    return [*map(_amount, numbers), _bytes(disk)]


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number < 1e7 else f"{number:.3g}"


def _bytes(number: float) -> str:
    return filesize.decimal(int(number))


_PLANNED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("parameters", "parameters", _amount),
    ("steps", "steps", _amount),
    ("tokens", "tokens", _amount),
    ("tokens in the loss", "supervised_tokens", _amount),
    ("operations (FLOPs)", "flops", _amount),
    ("checkpoints", "checkpoints", _amount),
    ("on disk", "disk_bytes", _bytes),
    ("memory per process, at least", "memory_bytes", _bytes),
)


def plan_time(flops: float, rate: float, num_workers: int, processes: int, measured: bool) -> str:
    """Return the estimated training time with its assumptions."""
    seconds = flops / (SHARE_OF_PEAK * rate * num_workers * processes)
    device = "of a matmul on one thread of this machine" if measured else "of the device"
    lengths = {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
    unit = next((unit for unit, length in lengths.items() if seconds >= length), "seconds")
    together = f"{num_workers} runs side by side" if num_workers > 1 else "one run at a time"
    if processes > 1:
        together += f" on {processes} processes"
    each = ", each at" if num_workers * processes > 1 else " at"
    return (
        f"training: about {seconds / lengths[unit]:.1f} {unit}, if {together}{each} "
        f"{SHARE_OF_PEAK:.0%} of the {rate:.3g} FLOP/s {device}; evaluation not included"
    )
