"""The loss along the straight path between the weights of two arms, and its barrier.

<output>/loss-paths.json    a row for every pair of arms and seed, and the key of what it depends on

Two arms of one model and seed start from the same weights. Whether they end in one valley of the
loss or in two is a property of the pair, not of a checkpoint, so it is measured after all runs.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint
from ntpctp._core.layout import RunId, checkpoint_directory, run_again, stage_directory
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.config import Experiment, LossPathOptions
from ntpctp.curvature import loss_path
from ntpctp.measures.computation.subset import Subset, SubsetLoss
from ntpctp.measures.context import EvaluationContext
from ntpctp.models import checkpoints
from ntpctp.objectives import CTP
from ntpctp.runner.events import Event
from ntpctp.runner.prepare import Data

PATHS = "loss-paths.json"
_VERSION = 1
_WITHOUT_EFFECT = re.compile("drop|initializer_range|name_or_path|transformers_version|dtype")
"""Fields of a config that do not change what the weights compute in evaluation mode."""


def measure_paths(
    experiment: Experiment,
    data: Data,
    output: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    device: str | torch.device = "cpu",
) -> None:
    """Measure the loss on the answers along the paths between compared arms, seed by seed.

    Weights are those of each arm's last step, in float32. Valid stored paths are not computed
    again. Costs a forward pass over the examples for each point of each path.

    Args:
        experiment: with ``comparison.loss_path``.
        data: of the runs.
        output: directory of the experiment, with all runs trained.
        on_event: called after every path.
        device: of the models.

    Raises:
        InputError: if a checkpoint is missing or damaged, or the split does not exist.
    """
    options = experiment.comparison.loss_path
    if options is None:
        return
    known: dict[str, dict[str, Any]] = {}
    with suppress(InputError):  # a damaged file is measured again
        known = {row["key"]: row for row in read_paths(output)}
    pairs = [
        (RunId(a, s), RunId(b, s))
        for s in experiment.seeds
        for a, b in experiment.comparison.pairs(experiment.arms)
    ]
    rows: list[dict[str, Any]] = []
    for number, (a, b) in enumerate(pairs, 1):
        ends = [_last_checkpoint(experiment, output, run) for run in (a, b)]
        digests = [checkpoints.verify(path) for path in ends]
        key = fingerprint([_VERSION, digests, data.fingerprint, options.model_dump(mode="json")])
        row = known.get(key) or _path(experiment, data, options, ends, device)
        rows.append({**row, "key": key, "a": a.arm, "b": b.arm, "seed": a.seed})
        write_sealed(output / PATHS, {"rows": rows})
        on_event(Event(a, "path", number, len(pairs), text=f"loss on the path to {b.arm}"))


def read_paths(output: Path) -> list[dict[str, Any]]:
    """Return the rows of ``loss-paths.json``; empty if the file is missing.

    Raises:
        InputError: if it is damaged.
    """
    if not (output / PATHS).is_file():
        return []
    remedy = f"{run_again(output)} measures it again"
    rows: list[dict[str, Any]] = read_sealed(output / PATHS, remedy)["rows"]
    return rows


def _last_checkpoint(experiment: Experiment, output: Path, run: RunId) -> Path:
    steps = experiment.arms[run.arm].training.steps
    return checkpoint_directory(stage_directory(output, run), steps)


def _path(
    experiment: Experiment,
    data: Data,
    options: LossPathOptions,
    ends: list[Path],
    device: str | torch.device,
) -> dict[str, Any]:
    first, second = (
        EvaluationContext(
            source=path,
            tokenizer=data.tokenizer,
            splits=data.splits,
            evaluation_splits=data.evaluation_splits,
            objective=CTP(),
            batch_tokens=experiment.evaluation.batch_tokens,
            device=device,
        )
        for path in ends
    )
    subset = Subset.of(first, options.split, options.max_items)
    mean = SubsetLoss(first, first.model, subset).mean()
    row: dict[str, Any] = {
        "split": subset.split,
        "items": len(subset),
        "fingerprint": subset.fingerprint,
    }
    if reason := _difference(first.model, second.model):
        return {**row, "barrier": None, "reason": reason}
    start = mean.parameters.values()
    end = mean.parameters.vector_of(dict(second.model.named_parameters()))
    found = loss_path(mean, start, end, num_points=options.points)
    losses = [float(loss) if np.isfinite(loss) else None for loss in found.losses]
    overflow = None in losses
    return {
        **row,
        "positions": found.positions.tolist(),
        "losses": losses,
        "barrier": None if overflow else found.barrier,
        "reason": "a loss on the path is not finite" if overflow else None,
    }


def _difference(first: PreTrainedModel, second: PreTrainedModel) -> str | None:
    """Return how two model configurations differ, so that no path joins them; None: they agree.

    Equal shapes are not enough: with another number of heads equal weights are another function.
    """
    one, other = first.config.to_dict(), second.config.to_dict()
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name) and not _WITHOUT_EFFECT.search(name):
            return (
                f"the arms' models differ: {name} is {one.get(name)!r} in one and "
                f"{other.get(name)!r} in the other"
            )
    return None
