"""From an experiment to encoded data: one tokenizer, all splits, checked before anything is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp import models
from ntpctp.errors import InputError
from ntpctp.experiment import Arm, Experiment
from ntpctp.loss import check_model
from ntpctp.measures import EncodedSplit
from ntpctp.storage import fingerprint
from ntpctp.tasks import Example, Task, check_disjoint
from ntpctp.tokens import closed_tokenizer, encode, load_tokenizer


@dataclass(frozen=True)
class Data:
    """All that an experiment's runs read.

    Attributes:
        tokenizer: shared by all arms.
        splits: encoded, by name; ``train`` first.
        evaluation_splits: names of the held-out splits.
        longest: tokens of the longest row of any split.
        fingerprint: changes with any text, split, role or token id.
    """

    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, EncodedSplit]
    evaluation_splits: tuple[str, ...]
    longest: int
    fingerprint: str


def prepare(task: Task, tokenizer: str | None, checkpoints: frozenset[str] = frozenset()) -> Data:
    """Read, check and encode all splits of ``task``.

    Args:
        task: where examples come from.
        tokenizer: directory or hub id, ``characters`` or ``words``; None: the checkpoint's, else
            the task's closed vocabulary.
        checkpoints: that models start from; they must agree on the tokenizer.

    Raises:
        InputError: for any bad example, shared example or missing tokenizer.
    """
    check_disjoint(task)
    examples = {name: task.split(name) for name in ("train", *task.evaluation_splits)}
    for name, of_split in examples.items():
        if not of_split:
            raise InputError(f"task {task.name!r}: the split {name!r} has no example")
    chosen = _tokenizer(task, tokenizer, checkpoints, examples)
    splits = {
        name: EncodedSplit(of_split, encode(of_split, chosen, name))
        for name, of_split in examples.items()
    }
    return Data(
        chosen,
        splits,
        task.evaluation_splits,
        max(len(row) for split in splits.values() for row in split.rows),
        _fingerprint(splits),
    )


def prepare_experiment(experiment: Experiment) -> Data:
    """Prepare the data of an experiment and check that each arm's model can be trained on it.

    Raises:
        InputError: as ``prepare``; or if an example does not fit a model's context, or a model is
            not causal. Costs building each distinct model once.
    """
    arms = experiment.arms.values()
    data = prepare(
        experiment.task,
        experiment.tokenizer,
        frozenset(arm.model.checkpoint for arm in arms if arm.model.checkpoint),
    )
    checked: list[models.ModelOptions] = []
    for arm in arms:
        if arm.model not in checked:
            initial_model(arm, data, experiment.seeds[0])
            checked.append(arm.model)
    return data


def initial_model(arm: Arm, data: Data, seed: int) -> PreTrainedModel:
    """Return the model that a run of ``arm`` starts from, checked on the first rows of the data."""
    model = models.build(arm.model, data.tokenizer, data.longest, seed)
    rows = data.splits["train"].rows[:2]
    length = min(len(row) for row in rows)
    ids = torch.stack([torch.from_numpy(row.input_ids[:length]) for row in rows])
    check_model(model, ids)
    return model


def _tokenizer(
    task: Task,
    wanted: str | None,
    checkpoints: frozenset[str],
    examples: Mapping[str, Any],
) -> PreTrainedTokenizerBase:
    pieces = task.pieces
    if wanted in ("characters", "words"):
        pieces = cast(Literal["characters", "words"], wanted)
    elif wanted or checkpoints:
        sources = {wanted} if wanted else set(checkpoints)
        if len(sources) > 1:
            raise InputError(
                f"arms start from different checkpoints ({', '.join(sorted(map(str, sources)))}); "
                "say which tokenizer all of them use: tokenizer: DIRECTORY"
            )
        return load_tokenizer(str(sources.pop()))
    if pieces is None:
        raise InputError(
            f"tokenizer: the task {task.name!r} reads open text; give the directory or hub id of "
            "a Hugging Face tokenizer, or 'characters' or 'words' to build one from the data"
        )
    return closed_tokenizer(
        (text for of_split in examples.values() for e in of_split for text in _texts(e)), pieces
    )


def _texts(example: Example) -> list[str]:
    return [segment.text for segment in example.segments] + list(example.choices)


def _fingerprint(splits: Mapping[str, EncodedSplit]) -> str:
    return fingerprint(
        {
            name: fingerprint(
                [
                    [
                        list(example.key),
                        list(example.choices),
                        row.input_ids.tolist(),
                        row.roles.tolist(),
                    ]
                    for example, row in zip(split.examples, split.rows, strict=True)
                ]
            )
            for name, split in splits.items()
        }
    )
