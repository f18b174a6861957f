"""From an experiment to encoded data: one tokenizer, all splits, checked before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp import models
from ntpctp.errors import InputError
from ntpctp.experiment import Arm, Experiment
from ntpctp.loss import check_model
from ntpctp.measures import EncodedSplit
from ntpctp.objectives import Selective
from ntpctp.storage import fingerprint
from ntpctp.supervision import SupervisedRows
from ntpctp.tasks import Example, Task, check_disjoint
from ntpctp.tokens import closed_tokenizer, encode, load_tokenizer, trim_prompt


@dataclass(frozen=True)
class Data:
    """All that an experiment's runs read.

    Attributes:
        tokenizer: shared by all arms.
        splits: encoded, by name; ``train`` first.
        evaluation_splits: names of the held-out splits.
        longest: tokens of the longest row of any split.
        fingerprint: changes with any text, split, role or token id.
        exclusions: split -> what was done to it -> number of examples, where it is not 0.
    """

    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, EncodedSplit]
    evaluation_splits: tuple[str, ...]
    longest: int
    fingerprint: str
    exclusions: Mapping[str, Mapping[str, int]]


def prepare(experiment: Experiment) -> Data:
    """Read, check and encode all that ``experiment`` needs, and try each arm's model on it.

    Raises:
        InputError: for any bad example, an example that is in two splits, one that does not fit
            or is not supervised (where the experiment does not say drop), a missing tokenizer, or
            a model that is not causal. Costs building each distinct model once.
    """
    task, arms = experiment.task, experiment.arms
    examples = task.all_splits()
    check_disjoint(examples)
    checkpoints = {arm.model.checkpoint for arm in arms.values() if arm.model.checkpoint}
    tokenizer = _tokenizer(task, experiment.tokenizer, checkpoints, examples)
    exclusions: dict[str, dict[str, int]] = {}
    splits = {}
    context = min(
        (c for arm in arms.values() if (c := models.stated_context(arm.model))), default=None
    )
    for name, of_split in examples.items():
        split = EncodedSplit(of_split, encode(of_split, tokenizer, name))
        split, counts = fit(split, context, experiment.data.too_long, name)
        if name == "train":
            for arm_name, arm in arms.items():
                split, dropped = _supervised(split, arm_name, arm, experiment.data.unsupervised)
                counts["dropped_unsupervised"] = counts.get("dropped_unsupervised", 0) + dropped
        if not split.rows:
            raise InputError(f"task {task.name!r}: no example is left in the split {name!r}")
        splits[name] = split
        exclusions[name] = {what: count for what, count in counts.items() if count}
    data = Data(
        tokenizer,
        splits,
        task.evaluation_splits,
        max(len(row) for split in splits.values() for row in split.rows),
        _fingerprint(splits),
        exclusions,
    )
    checked: list[models.ModelOptions] = []
    for arm in arms.values():
        if arm.model not in checked:
            initial_model(arm, data, experiment.seeds[0])
            checked.append(arm.model)
    return data


def fit(
    split: EncodedSplit, context: int | None, policy: str, name: str
) -> tuple[EncodedSplit, dict[str, int]]:
    """Apply the policy for examples that are longer than ``context`` tokens.

    Returns:
        The split, and how many examples were ``dropped_too_long`` or ``prompts_trimmed``.

    Raises:
        InputError: under ``error``, names the first such example; under ``trim_prompt``, one whose
            reasoning and answer alone do not fit.
    """
    if context is None or all(len(row) <= context for row in split.rows):
        return split, {}
    kept, trimmed = [], 0
    for number, (example, row) in enumerate(zip(split.examples, split.rows, strict=True)):
        where = example.source or f"{name} example {number}"
        if len(row) <= context:
            kept.append((example, row))
        elif policy == "error":
            raise InputError(
                f"{where}: has {len(row)} tokens (prompt, answer and end of sequence), the model's "
                f"context only {context}; nothing is cut: shorten it, raise model.context, or say "
                "data.too_long: drop or trim_prompt"
            )
        elif policy == "trim_prompt":
            kept.append((example, trim_prompt(row, context, where)))
            trimmed += 1
    dropped = len(split.rows) - len(kept)
    examples, rows = [example for example, _ in kept], [row for _, row in kept]
    return EncodedSplit(examples, rows), {"dropped_too_long": dropped, "prompts_trimmed": trimmed}


def _supervised(split: EncodedSplit, name: str, arm: Arm, policy: str) -> tuple[EncodedSplit, int]:
    """Apply the policy for rows of which the loss of an arm would see nothing."""
    if isinstance(arm.objective, Selective):
        return split, 0  # keeps at least one token of every row
    empty = set(SupervisedRows(split.rows, arm.objective).unsupervised())
    if not empty:
        return split, 0
    first = min(empty)
    if policy == "error":
        where = split.examples[first].source or f"train example {first}"
        raise InputError(
            f"{where}: arm {name!r} ({arm.objective.name}) supervises none of its tokens "
            f"({len(empty)} such examples); choose an objective that covers it, or say "
            "data.unsupervised: drop"
        )
    keep = [index for index in range(len(split.rows)) if index not in empty]
    kept = EncodedSplit([split.examples[i] for i in keep], [split.rows[i] for i in keep])
    return kept, len(empty)


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
    checkpoints: set[str],
    examples: Mapping[str, Sequence[Example]],
) -> PreTrainedTokenizerBase:
    pieces = task.pieces
    if wanted in ("characters", "words"):
        pieces = cast(Literal["characters", "words"], wanted)
    elif wanted or checkpoints:
        sources = {wanted} if wanted else checkpoints
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
