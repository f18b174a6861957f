"""From training budgets to optimizer steps, given the encoded data."""

from collections.abc import Callable, Sequence
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.config import Arm, Experiment
from ntpctp.data.encoded import lengths
from ntpctp.models.flops import training_flops
from ntpctp.objectives import Selective
from ntpctp.objectives.dataset import num_supervised
from ntpctp.runner.prepare import Data, initial_model, prepare
from ntpctp.training import TrainingOptions
from ntpctp.training.budget import Unit
from ntpctp.training.options import MOST_STEPS


def with_steps(experiment: Experiment, cache: Path | None = None) -> Experiment:
    """Return ``experiment`` with the steps that its budgets give.

    Args:
        experiment: returned unchanged if it has no budgets.
        cache: as for ``prepare``.

    Raises:
        InputError: as ``prepare``, or if steps and budget are both set and disagree.
    """
    if all(arm.training.budget is None for arm in experiment.arms.values()):
        return experiment
    data = prepare(experiment, cache)
    arms = {
        name: arm.model_copy(update={"training": _resolved(name, arm, data, experiment.seeds[0])})
        for name, arm in experiment.arms.items()
    }
    return experiment.model_copy(update={"arms": arms})


def _resolved(name: str, arm: Arm, data: Data, seed: int) -> TrainingOptions:
    options = arm.training
    if options.budget is None:
        return options
    steps = steps_of(arm, data, seed)
    if options.steps not in (0, steps):
        raise InputError(
            f"arm {name!r}: training.budget {options.budget.unit}: {options.budget.amount:g} "
            f"gives {steps} step{'s' * (steps != 1)}, but training.steps is "
            f"{options.steps}. Omit one of them"
        )
    try:
        return TrainingOptions.model_validate({**options.model_dump(), "steps": steps})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"arm {name!r}: training.budget gives {steps} steps: {problem}") from error


def steps_of(arm: Arm, data: Data, seed: int) -> int:
    """Return the fewest steps whose expected cost reaches the budget of ``arm``.

    The cost of a step is that of ``batch_size`` average examples of the training split. Where the
    objective changes with the step, so does the cost of supervised tokens and operations.

    Raises:
        InputError: if steps have no cost, so that the budget is never reached.
    """
    budget = arm.training.budget
    assert budget is not None
    cost = _cost_of_steps(arm, data, seed, budget.unit)
    reached = 0.0
    for step in count():
        if step >= arm.objective.settled_from:  # from here on all steps cost the same
            if not cost(step):
                raise InputError(
                    f"training.budget {budget.unit}: never reached, as the objective "
                    f"{arm.objective.name} ends with steps that cost none. Set training.steps"
                )
            # An exact multiple is not rounded up.
            more = (budget.amount - reached) / cost(step) * (1 - 1e-12)
            if not more <= MOST_STEPS:
                raise InputError(
                    f"training.budget {budget.unit}: {budget.amount:g} takes more than "
                    f"{MOST_STEPS} steps. Lower it"
                )
            return step + max(1, ceil(more))
        reached += cost(step)
        if reached >= budget.amount:
            return step + 1
    raise AssertionError("a schedule ends")


def amount_of(arm: Arm, data: Data, seed: int, unit: Unit) -> float:
    """Return the expected total of ``unit`` for a run of ``arm``."""
    return amounts_at(arm, data, seed, unit, [arm.training.steps])[0]


def amounts_at(arm: Arm, data: Data, seed: int, unit: Unit, steps: Sequence[int]) -> list[float]:
    """Return the expected total of ``unit`` for a run of ``arm`` up to each of ``steps``.

    Args:
        arm: with its training options.
        data: of the experiment.
        seed: any seed of the experiment.
        unit: of a budget.
        steps: ascending.
    """
    cost = _cost_of_steps(arm, data, seed, unit)
    total, done, found = 0.0, 0, []
    for step in steps:
        while done < min(step, arm.objective.settled_from):
            total += cost(done)
            done += 1
        if done < step:  # from here on all steps cost the same
            total += (step - done) * cost(done)
            done = step
        found.append(total)
    return found


def expected_flops(experiment: Experiment, data: Data) -> dict[str, dict[str, Any]]:
    """Return, for each arm, the steps of its checkpoints and the training operations up to each.

    Operations are those of ``ntpctp.models.flops`` for average examples, matrix products only; null
    with a reason if the model's configuration does not state its attention's size. Costs building
    each arm's model once.
    """
    expected: dict[str, dict[str, Any]] = {}
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        expected[name] = {"steps": steps, "flops": None, "reason": None}
        try:
            expected[name]["flops"] = amounts_at(arm, data, experiment.seeds[0], "flops", steps)
        except AttributeError as error:
            expected[name]["reason"] = f"operations of this model are not known: {error}"
    return expected


def _cost_of_steps(arm: Arm, data: Data, seed: int, unit: Unit) -> Callable[[int], float]:
    """Return the expected cost of a step as a cached function of the step."""
    known: dict[str, float] = {}

    def cost(step: int) -> float:
        parts = str([part for share, part in arm.objective.mixture(step) if share])
        if parts not in known:
            known[parts] = arm.training.batch_size * _COSTS[unit](arm, data, seed, step)
        return known[parts]

    return cost


def _epochs(arm: Arm, data: Data, seed: int, step: int) -> float:
    return 1 / len(data.splits["train"].encoded)


def _tokens(arm: Arm, data: Data, seed: int, step: int) -> float:
    return float(lengths(data.splits["train"].encoded).mean())


def _supervised_tokens(arm: Arm, data: Data, seed: int, step: int) -> float:
    return float(num_supervised(arm.objective, data.splits["train"].encoded, step).mean())


def _flops(arm: Arm, data: Data, seed: int, step: int) -> float:
    examples = data.splits["train"].encoded
    sizes = lengths(examples)
    # A selective loss needs the logits of all tokens to choose among them.
    selective = isinstance(arm.objective, Selective)
    head = sizes - 1 if selective else num_supervised(arm.objective, examples, step)
    return float(training_flops(initial_model(arm, data, seed), sizes, head).mean())


_COSTS: dict[Unit, Callable[[Arm, Data, int, int], float]] = {
    "epochs": _epochs,
    "tokens": _tokens,
    "supervised_tokens": _supervised_tokens,
    "flops": _flops,
}
"""Cost of an average example, by unit."""
