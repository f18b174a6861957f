"""What is done with every checkpoint while training goes on: stop at a target, keep some weights.

Both need scores, so the checkpoint is measured at once. Where neither is asked for, a run is
measured after it is trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ntpctp._core.errors import InputError
from ntpctp.config import Evaluation, Experiment, Keep
from ntpctp.measures import Score
from ntpctp.models import checkpoints
from ntpctp.runner.evaluate import evaluate, stored
from ntpctp.runner.prepare import Data


def follower(
    experiment: Experiment, data: Data, arm: str, device: str | torch.device
) -> Callable[[Path], bool] | None:
    """Return what ``train`` is to call with every checkpoint, or None if there is nothing to do.

    The function measures the checkpoint, deletes the weights that are not to be kept, and says
    whether to stop. It takes the time of the measures and the memory of a second model.

    Raises:
        InputError: when called, if no measure gives the score that decides.
    """
    settings, chosen = experiment.evaluation, experiment.arms[arm]
    stop, keep = chosen.training.stop, settings.keep
    if stop is None and keep == "all":
        return None

    def follow(path: Path) -> bool:
        scores = evaluate(
            path,
            data,
            chosen.objective,
            settings.at(checkpoints.step_of(path), chosen.training.steps),
            batch_tokens=settings.batch_tokens,
            device=device,
        )
        if isinstance(keep, Keep):
            for other in superfluous(path, keep, settings):
                checkpoints.thin(other)
        if stop is None:
            return False
        return stop.reached(_the_score(scores, stop.score, stop.split, "training.stop").value)

    return follow


def superfluous(newest: Path, keep: Keep, evaluation: Evaluation) -> list[Path]:
    """Return the checkpoints whose weights are not to be kept; never the first or ``newest``.

    Args:
        newest: the checkpoint that was measured last.
        keep: what to keep.
        evaluation: its measures give the score that says which is best.

    Raises:
        InputError: if no measure gives that score, or neither direction of it is better.
    """
    step = checkpoints.step_of(newest)
    between = [
        path
        for path in checkpoints.list_checkpoints(newest.parent)
        if 0 < checkpoints.step_of(path) <= step and not checkpoints.is_thin(path)
    ]
    if keep.last is not None:
        kept = set(between[-keep.last :])
    else:
        kept = {_best(between, keep, evaluation)} if between else set()
    return [path for path in between if path not in kept and path != newest]


def _best(paths: Sequence[Path], keep: Keep, evaluation: Evaluation) -> Path:
    assert keep.best is not None
    best, record = paths[0], None
    for path in paths:
        scores = [s for measure in evaluation.measures for s in stored(path, measure) or ()]
        score = _the_score(scores, keep.best, keep.split, "evaluation.keep")
        if score.higher_is_better is None:
            raise InputError(
                f"evaluation.keep.best: neither direction of {keep.best} is better; choose another"
            )
        if score.value is None:
            continue
        merit = score.value if score.higher_is_better else -score.value
        if record is None or merit > record:
            best, record = path, merit
    return best


def _the_score(scores: Sequence[Score], name: str, split: str, field: str) -> Score:
    """Return the score that a field of the experiment names."""
    whole = [s for s in scores if s.strength is None and s.stratum is None]
    found = [s for s in whole if (s.score, s.split) == (name, split)]
    if not found:
        known = sorted({f"{s.score} on {s.split}" for s in whole})
        raise InputError(
            f"{field}: no measure gives {name} on {split} at every checkpoint; there are "
            f"{', '.join(known)}"
        )
    return found[0]
