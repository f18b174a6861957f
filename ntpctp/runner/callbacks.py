"""Actions at every checkpoint during training: stop at a target score, delete surplus weights.

Both need scores, so the checkpoint is measured at once. Without either, a run is measured after
its training.
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


def checkpoint_callback(
    experiment: Experiment, data: Data, arm: str, device: str | torch.device
) -> Callable[[Path], bool] | None:
    """Return the function that ``train`` calls with every checkpoint, or None if none is needed.

    The function measures the checkpoint, deletes weights that ``evaluation.keep`` does not keep,
    and returns whether to stop. It needs the time of the measures and the memory of a second model.

    Raises:
        InputError: when called, if no measure yields the deciding score.
    """
    settings, chosen = experiment.evaluation, experiment.arms[arm]
    stop, keep = chosen.training.stop, settings.keep
    if stop is None and keep == "all":
        return None

    def at_checkpoint(path: Path) -> bool:
        scores = evaluate(
            path,
            data,
            chosen.objective,
            settings.at(checkpoints.step_of(path), chosen.training.steps),
            batch_tokens=settings.batch_tokens,
            device=device,
        )
        if isinstance(keep, Keep):
            for other in checkpoints_to_thin(path, keep, settings):
                checkpoints.thin(other)
        if stop is None:
            return False
        return stop.reached(_the_score(scores, stop.score, stop.split, "training.stop").value)

    return at_checkpoint


def checkpoints_to_thin(newest: Path, keep: Keep, evaluation: Evaluation) -> list[Path]:
    """Return the checkpoints whose weights can be deleted; never the first or ``newest``.

    Args:
        newest: the checkpoint measured last.
        keep: the policy.
        evaluation: its measures yield the score by which ``keep`` ranks checkpoints.

    Raises:
        InputError: if no measure yields that score, or the score has no better direction.
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
                f"evaluation.keep.best: {keep.best} is descriptive only: neither larger nor "
                "smaller is better. Choose another score"
            )
        if score.value is None:
            continue
        merit = score.value if score.higher_is_better else -score.value
        if record is None or merit > record:
            best, record = path, merit
    return best


def _the_score(scores: Sequence[Score], name: str, split: str, field: str) -> Score:
    """Return the score named by a field of the experiment."""
    whole = [s for s in scores if s.strength is None and s.stratum is None]
    matching = [s for s in whole if (s.score, s.split) == (name, split)]
    if not matching:
        known = sorted({f"{s.score} on {s.split}" for s in whole})
        raise InputError(
            f"{field}: no measure yields {name} on {split} at every checkpoint. Available: "
            f"{', '.join(known)}"
        )
    return matching[0]
