"""From an experiment to encoded data: one tokenizer, all splits, checked before training."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.files import fingerprint
from ntpctp._core.rng import torch_seed
from ntpctp.config import Arm, Experiment, Keep
from ntpctp.data.cache import encode_task
from ntpctp.data.encoded import EncodedExample, lengths
from ntpctp.data.tasks import Task
from ntpctp.data.tokenize import Pieces, load_tokenizer
from ntpctp.measures import EncodedSplit, Measure
from ntpctp.measures.fields import split_names
from ntpctp.models.build import build_model, context_length, source_of, stated_context
from ntpctp.models.lora import add_lora
from ntpctp.models.options import LoraOptions, ModelOptions
from ntpctp.objectives.loss import check_model
from ntpctp.runner.exclusions import candidate_lengths, fit, supervised


@dataclass(frozen=True)
class Data:
    """The encoded data of an experiment.

    Attributes:
        task: source of the examples.
        tokenizer: shared by all arms.
        splits: by name; ``train`` first.
        evaluation_splits: names of the held-out splits.
        longest: tokens of the longest example of any split, or of one with another choice.
        fingerprint: changes with any text, split, role or token id.
        exclusions: split -> kind (``dropped_too_long``, ...) -> number of examples, if not 0.
        context: positions of the smallest model to be measured; None: not limited.
    """

    task: Task
    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, EncodedSplit]
    evaluation_splits: tuple[str, ...]
    longest: int
    fingerprint: str
    exclusions: Mapping[str, Mapping[str, int]]
    context: int | None


def encoded_beside(output: Path) -> Path:
    """Return the directory of encoded data that the experiments beside ``output`` share."""
    return output.parent / ".encoded"


def prepare(experiment: Experiment, cache: Path | None = None) -> Data:
    """Read, check and encode the data of an experiment, and try each arm's model on it.

    Costs building each distinct model once.

    Args:
        experiment: validated.
        cache: directory of encoded tasks, see ``data.cache.encode_task``.

    Raises:
        InputError: for a bad example, an example in two splits, an example that is too long or not
            supervised (unless the experiment sets drop), a missing checkpoint or tokenizer, or a
            model that is not causal.
    """
    arms, first = experiment.arms, experiment.seeds[0]
    for arm in arms.values():
        for seed in experiment.seeds:  # so that a missing checkpoint is an error before the start
            source_of(arm.model, seed)
    sources = {source for arm in arms.values() if (source := source_of(arm.model, first))}
    contexts = [stated_context(arm.model, first) for arm in arms.values()]

    def drop_unsupervised(split: EncodedSplit) -> tuple[EncodedSplit, int]:
        total = 0
        for name, arm in arms.items():
            split, dropped = supervised(split, name, arm, experiment.data.unsupervised)
            total += dropped
        return split, total

    data = _encoded(
        experiment.task,
        _tokenizer(experiment.task, experiment.tokenizer, sources),
        experiment.evaluation.measures,
        context=min((c for c in contexts if c is not None), default=None),
        too_long=experiment.data.too_long,
        cache=cache,
        drop_unsupervised=drop_unsupervised,
    )
    _check_split_names(experiment, data.splits)
    checked: list[tuple[ModelOptions, LoraOptions | None]] = []
    for arm in arms.values():
        start = arm.model, arm.training.lora
        if start not in checked:
            model = initial_model(arm, data, first)
            for measure in experiment.evaluation.measures:
                measure.check_model(model)
            contexts.append(context_length(model.config))  # a fresh model is made to fit
            checked.append(start)
    return replace(data, context=min((c for c in contexts if c is not None), default=None))


def prepare_task(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    measures: Sequence[Measure],
    *,
    context: int | None,
    too_long: str = "error",
    cache: Path | None = None,
) -> Data:
    """Read, check and encode a task for measures alone, without training.

    Args:
        task: source of the examples.
        tokenizer: of the checkpoint to be measured.
        measures: with their options.
        context: positions of the model; None: not limited.
        too_long: policy for examples that do not fit, see ``exclusions.fit``.
        cache: directory of encoded tasks, see ``data.cache.encode_task``.

    Raises:
        InputError: for a bad example, one that does not fit, or one that a measure cannot judge.
    """
    return _encoded(task, tokenizer, measures, context=context, too_long=too_long, cache=cache)


def _encoded(
    task: Task,
    tokenizer: Pieces | PreTrainedTokenizerBase,
    measures: Sequence[Measure],
    *,
    context: int | None,
    too_long: str,
    cache: Path | None,
    drop_unsupervised: Callable[[EncodedSplit], tuple[EncodedSplit, int]] | None = None,
) -> Data:
    """Return the encoded splits of a task, after exclusions; arguments as ``prepare_task``.

    ``drop_unsupervised`` is applied to ``train``; it returns the split and the number dropped.
    """
    encoded = encode_task(task, tokenizer, cache)
    splits: dict[str, EncodedSplit] = {}
    exclusions, fingerprints = {}, {}
    for name, whole in encoded.splits.items():
        split, counts = fit(EncodedSplit(whole.examples, whole.encoded), context, too_long, name)
        if name == "train" and drop_unsupervised is not None:
            split, counts["dropped_unsupervised"] = drop_unsupervised(split)
        if not split.encoded:
            raise InputError(f"task {task.name!r}: no example is left in the split {name!r}")
        splits[name] = split
        exclusions[name] = {kind: count for kind, count in counts.items() if count}
        fingerprints[name] = whole.fingerprint
        if exclusions[name]:
            fingerprints[name] = fingerprint([whole.fingerprint, _hash_of_ids(split.encoded)])
    _check_measures(task, measures, splits)
    candidates = candidate_lengths(measures, task, splits, encoded.tokenizer, context)
    return Data(
        task,
        encoded.tokenizer,
        splits,
        task.evaluation_splits,
        max(*(int(lengths(split.encoded).max()) for split in splits.values()), *candidates),
        fingerprint([fingerprints, _vocabulary_of(encoded.tokenizer)]),
        exclusions,
        context,
    )


def _check_split_names(experiment: Experiment, splits: Mapping[str, EncodedSplit]) -> None:
    """Refuse names of splits that the task does not have."""
    for name, arm in experiment.arms.items():
        if arm.training.stop is not None:
            lookup(splits, arm.training.stop.split, f"split of arms.{name}.training.stop")
    if isinstance(experiment.evaluation.keep, Keep):
        lookup(splits, experiment.evaluation.keep.split, "split of evaluation.keep")
    if experiment.comparison.loss_path is not None:
        lookup(splits, experiment.comparison.loss_path.split, "split of comparison.loss_path")


def _check_measures(
    task: Task, measures: Sequence[Measure], splits: Mapping[str, EncodedSplit]
) -> None:
    """Refuse measures that do not fit the task or its splits, or need answers that are missing."""
    for measure in measures:
        measure.check(task)
        for split in split_names(dict(measure).get("split", [])):  # if the measure has this option
            lookup(splits, split, f"split of evaluation.measures.{measure.name}")
    names = [measure.name for measure in measures]
    for name in task.evaluation_splits:
        first = splits[name].examples[0]
        if first.is_plain_text and names != ["accuracy"]:
            raise InputError(
                f"{first.source or name}: is plain text without an answer: only its loss can be "
                f"measured. Set evaluation.measures: [accuracy] (found: {', '.join(names)})"
            )


def _vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Return what decides a fresh model's size and prompts, beside the encoded examples."""
    return [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]


def _hash_of_ids(examples: Sequence[EncodedExample]) -> str:
    """Return a hash of all token ids."""
    hashed = hashlib.sha256()
    for encoded in examples:
        hashed.update(encoded.input_ids.tobytes())
    return hashed.hexdigest()


def initial_model(arm: Arm, data: Data, seed: int) -> PreTrainedModel:
    """Return the model from which a run starts, checked on the first training examples."""
    model = build_model(arm.model, data.tokenizer, data.longest, seed)
    examples = data.splits["train"].encoded[:2]
    length = min(len(encoded) for encoded in examples)
    ids = torch.stack([torch.from_numpy(encoded.input_ids[:length]) for encoded in examples])
    check_model(model, ids)
    if arm.training.lora is not None:
        add_lora(model, arm.training.lora, torch_seed(seed, "adapter"))
    return model


def _tokenizer(
    task: Task, source: str | None, checkpoints: set[str]
) -> Pieces | PreTrainedTokenizerBase:
    """Return the tokenizer, or the pieces (characters, words) of one to be built from the data."""
    if source in ("characters", "words"):
        return cast(Pieces, source)
    if source or checkpoints:
        sources = {source} if source else checkpoints
        if len(sources) > 1:
            raise InputError(
                f"arms start from different checkpoints ({', '.join(sorted(map(str, sources)))}). "
                "Set the tokenizer that all of them use: tokenizer: DIRECTORY"
            )
        return load_tokenizer(str(sources.pop()))
    if task.pieces is None:
        raise InputError(
            f"tokenizer: the task {task.name!r} reads open text. Set the directory or Hub id of a "
            "Hugging Face tokenizer, or 'characters' or 'words' to build one from the data"
        )
    return task.pieces
