"""From an experiment to encoded data: one tokenizer, all splits, checked before anything is run."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.files import fingerprint
from ntpctp._core.rng import torch_seed
from ntpctp.config import Arm, Experiment, Keep
from ntpctp.data.cache import encode_task
from ntpctp.data.encoded import EncodedExample, Selection, lengths, role_patterns, trim_prompt
from ntpctp.data.tasks import Task
from ntpctp.data.tokenize import Pieces, load_tokenizer
from ntpctp.measures import EncodedSplit, Measure
from ntpctp.measures.fields import split_names
from ntpctp.models.build import build_model, context_length, source_of, stated_context
from ntpctp.models.lora import add_lora
from ntpctp.models.options import LoraOptions, ModelOptions
from ntpctp.objectives import ExampleObjective, Selective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import check_model


@dataclass(frozen=True)
class Data:
    """All that an experiment's runs read.

    Attributes:
        task: where the examples come from.
        tokenizer: shared by all arms.
        splits: encoded, by name; ``train`` first.
        evaluation_splits: names of the held-out splits.
        longest: tokens of the longest row of any split.
        fingerprint: changes with any text, split, role or token id.
        exclusions: split -> what was done to it -> number of examples, where it is not 0.
        context: the smallest of all models that are to be measured; None: not limited.
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
    """Read, check and encode all that ``experiment`` needs, and try each arm's model on it.

    Args:
        experiment: what is asked.
        cache: directory of encoded tasks, see ``encoded.encode_task``.

    Raises:
        InputError: for any bad example, an example that is in two splits, one that does not fit
            or is not supervised (where the experiment does not say drop), a missing tokenizer, or
            a model that is not causal. Costs building each distinct model once.
    """
    task, arms = experiment.task, experiment.arms
    for arm in arms.values():
        for seed in experiment.seeds:  # a checkpoint that is missing is missed before the start
            source_of(arm.model, seed)
    first = experiment.seeds[0]
    sources = {source for arm in arms.values() if (source := source_of(arm.model, first))}
    encoded = encode_task(task, _tokenizer(task, experiment.tokenizer, sources), cache)
    exclusions: dict[str, dict[str, int]] = {}
    splits = {}
    contexts = [stated_context(arm.model, first) for arm in arms.values()]
    context = min((c for c in contexts if c is not None), default=None)
    fingerprints = {}
    for name, of_split in encoded.splits.items():
        split = EncodedSplit(of_split.examples, of_split.encoded)
        split, counts = fit(split, context, experiment.data.too_long, name)
        if name == "train":
            for arm_name, arm in arms.items():
                split, dropped = _supervised(split, arm_name, arm, experiment.data.unsupervised)
                counts["dropped_unsupervised"] = counts.get("dropped_unsupervised", 0) + dropped
        if not split.encoded:
            raise InputError(f"task {task.name!r}: no example is left in the split {name!r}")
        splits[name] = split
        exclusions[name] = {what: count for what, count in counts.items() if count}
        fingerprints[name] = of_split.fingerprint
        if exclusions[name]:
            fingerprints[name] = fingerprint([of_split.fingerprint, _ids(split.encoded)])
    _check_measures(experiment, splits)
    data = Data(
        task,
        encoded.tokenizer,
        splits,
        task.evaluation_splits,
        max(
            *(int(lengths(split.encoded).max()) for split in splits.values()),
            *_candidate_lengths(
                experiment.evaluation.measures, task, splits, encoded.tokenizer, context
            ),
        ),
        fingerprint([fingerprints, _tokens_of(encoded.tokenizer)]),
        exclusions,
        context,
    )
    checked: list[tuple[ModelOptions, LoraOptions | None]] = []
    for arm in arms.values():
        start = arm.model, arm.training.lora
        if start not in checked:
            model = initial_model(arm, data, experiment.seeds[0])
            for measure in experiment.evaluation.measures:
                measure.check_model(model)
            contexts.append(context_length(model.config))  # of one that is made to fit too
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
    """Read, check and encode a task for measures alone: nothing is trained on it.

    Args:
        task: where the examples come from.
        tokenizer: of the checkpoint that is to be measured.
        measures: what is to be measured.
        context: positions of the model; None: not limited.
        too_long: the policy for examples that do not fit, see ``fit``.
        cache: directory of encoded tasks, see ``encoded.encode_task``.

    Raises:
        InputError: for any bad example, one that does not fit, or one that a measure cannot judge.
    """
    encoded = encode_task(task, tokenizer, cache)
    splits, exclusions, fingerprints = {}, {}, {}
    for name, of_split in encoded.splits.items():
        split = EncodedSplit(of_split.examples, of_split.encoded)
        split, counts = fit(split, context, too_long, name)
        if not split.encoded:
            raise InputError(f"task {task.name!r}: no example is left in the split {name!r}")
        splits[name], exclusions[name] = split, counts
        fingerprints[name] = of_split.fingerprint
        if counts:
            fingerprints[name] = fingerprint([of_split.fingerprint, _ids(split.encoded)])
    _check_answers(task, measures, splits)
    return Data(
        task,
        encoded.tokenizer,
        splits,
        task.evaluation_splits,
        max(
            *(int(lengths(split.encoded).max()) for split in splits.values()),
            *_candidate_lengths(measures, task, splits, encoded.tokenizer, context),
        ),
        fingerprint([fingerprints, _tokens_of(encoded.tokenizer)]),
        exclusions,
        context,
    )


def _check_measures(experiment: Experiment, splits: Mapping[str, EncodedSplit]) -> None:
    """Refuse splits that are not there, and measures of answers where a split has none."""
    for name, arm in experiment.arms.items():
        if arm.training.stop is not None:
            lookup(splits, arm.training.stop.split, f"split of arms.{name}.training.stop")
    if isinstance(experiment.evaluation.keep, Keep):
        lookup(splits, experiment.evaluation.keep.split, "split of evaluation.keep")
    if experiment.comparison.loss_path is not None:
        lookup(splits, experiment.comparison.loss_path.split, "split of comparison.loss_path")
    _check_answers(experiment.task, experiment.evaluation.measures, splits)


def _check_answers(
    task: Task, measures: Sequence[Measure], splits: Mapping[str, EncodedSplit]
) -> None:
    """Refuse measures that do not fit the task or its splits, or that need answers it has not."""
    for measure in measures:
        measure.check(task)
        for split in split_names(dict(measure).get("split", [])):  # of those that have this option
            lookup(splits, split, f"split of evaluation.measures.{measure.name}")
    names = [measure.name for measure in measures]
    for name in task.evaluation_splits:
        first = splits[name].examples[0]
        if first.is_plain_text and names != ["accuracy"]:
            raise InputError(
                f"{first.source or name}: is plain text without an answer, of which only the loss "
                f"can be measured; say evaluation.measures: [accuracy] (found: {', '.join(names)})"
            )


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
    if context is None:
        return split, {}
    num_tokens = lengths(split.encoded)
    too_long = np.flatnonzero(num_tokens > context)
    if not len(too_long):
        return split, {}
    if policy == "error":
        where = _where(split, int(too_long[0]), name)
        raise InputError(
            f"{where}: has {num_tokens[too_long[0]]} tokens (prompt, answer and end of sequence), "
            f"the model's context only {context}; nothing is cut: shorten it, raise "
            "model.context, or say data.too_long: drop or trim_prompt"
        )
    if policy == "drop":
        return _without(split, too_long), {"dropped_too_long": len(too_long)}
    rows = list(split.encoded)
    for index in too_long.tolist():
        where = _where(split, index, name)
        if split.examples[index].is_plain_text:
            raise InputError(
                f"{where}: is plain text of {len(rows[index])} tokens and has no prompt to trim; "
                "cut it up, raise model.context, or say data.too_long: drop"
            )
        rows[index] = trim_prompt(rows[index], context, where)
    return EncodedSplit(split.examples, rows), {"prompts_trimmed": len(too_long)}


def _where(split: EncodedSplit, index: int, name: str) -> str:
    return split.examples[index].source or f"{name} example {index}"


def _without(split: EncodedSplit, indices: Iterable[int]) -> EncodedSplit:
    """Leave out some items; what is left is a view."""
    left = np.setdiff1d(np.arange(len(split.encoded)), list(indices))
    return EncodedSplit(Selection(split.examples, left), Selection(split.encoded, left))


def _candidate_lengths(
    measures: Sequence[Measure],
    task: Task,
    splits: Mapping[str, EncodedSplit],
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
) -> Iterator[int]:
    """Yield how long measured examples are with their longest choice for an answer."""
    fitted = max((getattr(m, "train_items", 0) for m in measures), default=0)
    known: dict[str, int] = {}
    for name in ("train", *task.evaluation_splits):
        split = splits[name].head(fitted if name == "train" else None)
        for index, example in enumerate(split.examples):
            if not example.choices:
                continue
            for choice in example.choices:
                if choice not in known:
                    ids = tokenizer(choice, add_special_tokens=False).input_ids
                    known[choice] = len(ids) + 1  # and the end of sequence
            row, longest = split.encoded[index], max(example.choices, key=known.__getitem__)
            length = int((~row.has_role("answer")).sum()) + known[longest]
            if context is not None and length > context:
                raise InputError(
                    f"{_where(split, index, name)}: has {length} tokens with the choice "
                    f"{longest[:80]!r} for an answer, the model's context only {context}; shorten "
                    "it or raise model.context"
                )
            yield length


def _tokens_of(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """What decides the size of a fresh model and how it is prompted, beside the rows."""
    return [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]


def _ids(rows: Sequence[EncodedExample]) -> str:
    """A hash of all token ids."""
    hashed = hashlib.sha256()
    for row in rows:
        hashed.update(row.input_ids.tobytes())
    return hashed.hexdigest()


def _supervised(split: EncodedSplit, name: str, arm: Arm, policy: str) -> tuple[EncodedSplit, int]:
    """Apply the policy for rows of which the loss of an arm would see nothing."""
    if isinstance(arm.objective, Selective):
        return split, 0  # keeps at least one token of every row
    if isinstance(arm.objective, ExampleObjective):  # of alike roles it sees alike
        patterns = role_patterns(split.encoded)
        firsts = list(patterns.values())
        blind = SupervisedExamples([split.encoded[index] for index in firsts], arm.objective)
        without = {firsts[k] for k in blind.unsupervised()}
        if not without:
            return split, 0
        unseen = {pattern for pattern, index in patterns.items() if index in without}
        empty = {k for k, row in enumerate(split.encoded) if row.roles.tobytes() in unseen}
    else:
        empty = set(SupervisedExamples(split.encoded, arm.objective).unsupervised())
    if not empty:
        return split, 0
    first = min(empty)
    if policy == "error":
        where, objective = _where(split, first, "train"), arm.objective.name
        if split.examples[first].is_plain_text:
            raise InputError(
                f"{where}: is plain text without an answer, of which arm {name!r} ({objective}) "
                "supervises nothing; train on it with ntp, or give prompt and answer"
            )
        raise InputError(
            f"{where}: arm {name!r} ({objective}) supervises none of its tokens "
            f"({len(empty)} such examples); choose an objective that covers it, or say "
            "data.unsupervised: drop"
        )
    return _without(split, empty), len(empty)


def initial_model(arm: Arm, data: Data, seed: int) -> PreTrainedModel:
    """Return the model that a run of ``arm`` starts from, checked on the first rows of the data."""
    model = build_model(arm.model, data.tokenizer, data.longest, seed)
    rows = data.splits["train"].encoded[:2]
    length = min(len(row) for row in rows)
    ids = torch.stack([torch.from_numpy(row.input_ids[:length]) for row in rows])
    check_model(model, ids)
    if arm.training.lora is not None:
        add_lora(model, arm.training.lora, torch_seed(seed, "adapter"))
    return model


def _tokenizer(
    task: Task, wanted: str | None, checkpoints: set[str]
) -> Pieces | PreTrainedTokenizerBase:
    """Return the tokenizer, or how to cut the text for one that is built from the data."""
    if wanted in ("characters", "words"):
        return cast(Pieces, wanted)
    if wanted or checkpoints:
        sources = {wanted} if wanted else checkpoints
        if len(sources) > 1:
            raise InputError(
                f"arms start from different checkpoints ({', '.join(sorted(map(str, sources)))}); "
                "say which tokenizer all of them use: tokenizer: DIRECTORY"
            )
        return load_tokenizer(str(sources.pop()))
    if task.pieces is None:
        raise InputError(
            f"tokenizer: the task {task.name!r} reads open text; give the directory or hub id of "
            "a Hugging Face tokenizer, or 'characters' or 'words' to build one from the data"
        )
    return task.pieces
