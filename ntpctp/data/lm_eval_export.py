"""Export of tasks for lm-evaluation-harness: a YAML and a JSON Lines file per split.

    <directory>/ntpctp_items.py                  loads the items and judges the answers of a model
    <directory>/ntpctp_prontoqa_test.yaml        "lm_eval --tasks ntpctp_prontoqa_test"
    <directory>/ntpctp_prontoqa_test.jsonl       one item per line

All splits of a task have its name as a tag ("--tasks ntpctp_prontoqa"). The harness encodes context
and continuation together, and moves white space between them into the continuation; ntpctp encodes
segments separately. ``check_encoding`` counts the items for which that makes a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.files import atomic_file, write_jsonl
from ntpctp._core.options import is_name
from ntpctp.data import lm_eval_template
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks import Task
from ntpctp.data.tokenize import encode

VERSION = 1
"""Of the exported tasks: increases with every change that affects a score."""

_ITEMS = "ntpctp_items"


class _Function(str):
    """The name of a Python function; written to YAML with the harness's tag !function."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Function, lambda dumper, name: dumper.represent_scalar("!function", str(name))
)


@dataclass(frozen=True)
class Exported:
    """The result of exporting a split.

    Attributes:
        name: of the task in lm-eval.
        items: number of items.
        judged_by: ``choice`` or ``answer``.
        differing: result of ``check_encoding``; None without a tokenizer.
        cut: number of items whose prompt lm-eval would truncate on the left to leave room for an
            answer.
    """

    name: str
    items: int
    judged_by: str
    differing: "Differing | None" = None
    cut: int = 0


@dataclass(frozen=True)
class Differing:
    """Numbers of items that lm-eval encodes differently from ntpctp.

    Attributes:
        other_tokens: items with other tokens.
        split_elsewhere: items with the same tokens whose continuation begins at another token
            (white space at the end of the prompt counts as part of the answer).
    """

    other_tokens: int
    split_elsewhere: int


def task_name(name: str, split: str = "") -> str:
    """Return the name of a task, or of its split, in lm-eval."""
    return "_".join(["ntpctp", *filter(None, [name, split.replace(".", "_")])])


def export(
    task: Task,
    directory: Path,
    splits: Sequence[str] = (),
    *,
    name: str | None = None,
    max_items: int | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    context: int | None = None,
) -> list[Exported]:
    """Export splits of a task; existing files of the same names are replaced.

    Args:
        task: the source of examples.
        directory: of the files.
        splits: names of splits; empty: all held-out splits.
        name: of the exported task; by default that of ``task``.
        max_items: number of items to export from each split, the first ones; None: all.
        tokenizer: of the checkpoint to evaluate: its end-of-sequence token is appended to every
            choice, and answers are written as it decodes them. None: the files suit any
            checkpoint, and log-likelihoods exclude the end of sequence unless lm-eval gets its
            text.
        context: number of positions of the model to evaluate, if known and limited.

    Raises:
        InputError: for an unknown split, or examples that this format cannot represent.
    """
    known = {split: split for split in ("train", *task.evaluation_splits)}
    for split in splits:
        lookup(known, split, f"split of {task.name}")
    if not is_name(name or task.name):
        raise InputError(
            f"--as {name}: expected a name of letters, digits, '.', '_' and '-' (it becomes part "
            "of file names)"
        )
    exported = []
    for split in splits or task.evaluation_splits:
        examples = list(islice(task.split(split), max_items))
        _check(examples, split)
        items = [_item(example, tokenizer) for example in examples]
        full_name = task_name(name or task.name, split)
        by_choice = "choices" in items[0]
        config = {
            "task": full_name,
            "tag": task_name(name or task.name),
            "custom_dataset": _Function(f"{_ITEMS}.load"),
            "dataset_kwargs": {"items": f"{full_name}.jsonl", "split": split},
            "test_split": split,
            **(_CHOICE if by_choice else _answer_config(examples, tokenizer, context)),
            "num_fewshot": 0,
            "metadata": {"version": VERSION, **_ending(tokenizer)},
        }
        write_jsonl(directory / f"{full_name}.jsonl", items)
        _write(
            directory / f"{full_name}.yaml",
            yaml.dump(config, Dumper=_Dumper, sort_keys=False, width=100),
        )
        differing, cut = None, 0
        if tokenizer is not None:
            differing = check_encoding(examples, tokenizer)
        if tokenizer is not None and context is not None and not by_choice:
            room = context - _limit(examples, tokenizer, context)
            cut = sum(len(tokenizer.encode(item["prompt"])) > room for item in items)
        judged_by = "choice" if by_choice else "answer"
        exported.append(Exported(full_name, len(items), judged_by, differing, cut))
    _write(directory / f"{_ITEMS}.py", Path(lm_eval_template.__file__).read_text("utf-8"))
    return exported


_CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "prompt",
    "doc_to_choice": "continuations",
    "doc_to_target": "right",
    # The prompt already ends with the separator from the answer.
    "target_delimiter": "",
    "process_results": _Function(f"{_ITEMS}.judge_choice"),
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True}
        for metric in ("acc", "acc_norm")
    ],
}


def _answer_config(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase | None, context: int | None
) -> dict[str, Any]:
    return {
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "target_delimiter": "",
        # Only the end of sequence, which lm-eval adds, ends an answer.
        "generation_kwargs": {
            "until": [],
            "do_sample": False,
            "max_gen_toks": _limit(examples, tokenizer, context),
        },
        "process_results": _Function(f"{_ITEMS}.judge_answer"),
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


def _limit(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase | None, context: int | None
) -> int:
    """Return the maximal number of tokens of a generated answer, including its end.

    If rules accept other texts too ("1,234." for "1234"), or the model generates its own reasoning,
    this is twice the longest reference, as in the measure ``accuracy``, but at most what the
    context leaves after the longest prompt: lm-eval would truncate prompts on the left. Otherwise
    only the reference itself is correct, and its length suffices. Without a tokenizer, bytes are
    counted: no tokenizer gives more tokens than bytes.
    """
    needed = wanted = longest_prompt = 0
    for example in examples:
        text = example.text("reasoning") + example.answer
        if tokenizer is None:
            length = len(text.encode()) + 1
        else:
            length = len(tokenizer(text, add_special_tokens=False).input_ids) + 1
            longest_prompt = max(longest_prompt, len(tokenizer.encode(_prompt_of(example))))
        is_free = bool(example.text("reasoning") or example.normalise)
        needed, wanted = max(needed, length), max(wanted, (1 + is_free) * length)
    if tokenizer is None or context is None:
        return wanted
    return max(needed, min(wanted, context - longest_prompt))


def _ending(tokenizer: PreTrainedTokenizerBase | None) -> dict[str, str]:
    return {} if tokenizer is None else {"eos_token": str(tokenizer.eos_token)}


def _check(examples: Sequence[Example], split: str) -> None:
    if not examples:
        raise InputError(f"the split {split!r} has no example")
    first = bool(examples[0].choices)
    for number, example in enumerate(examples):
        where = example.source or f"{split} example {number}"
        if example.messages:
            raise InputError(
                f"{where}: has chat messages, but an exported prompt is plain text. Give prompt "
                "and answer, and let lm-eval apply the model's template (--apply_chat_template)"
            )
        if example.is_plain_text:
            raise InputError(f"{where}: is plain text without a question")
        if bool(example.choices) != first:
            raise InputError(
                f"{where}: some examples of the split {split!r} have choices and some have none; "
                "lm-eval judges all items of a task the same way. Put them into separate splits"
            )


def _item(example: Example, tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    """Return an example as a line of the JSON Lines file."""
    if example.choices:
        return {
            "prompt": _prompt_of(example),
            "choices": list(example.choices),
            "right": example.choices.index(example.answer),
        }

    def decoded(text: str) -> str:
        if tokenizer is None:
            return text
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return {
        "prompt": _prompt_of(example),
        "answer": decoded(example.answer),
        "marker": decoded(example.answer_marker).strip() if example.text("reasoning") else "",
        "rules": list(example.normalise),
    }


def _prompt_of(example: Example) -> str:
    """Return the model's input: all before the answer; without choices, up to the last prompt."""
    segments = example.segments[:-1]
    if not example.choices:
        last = max((k for k, s in enumerate(segments) if s.role == "prompt"), default=-1)
        segments = segments[: last + 1]
    return "".join(segment.text for segment in segments)


def check_encoding(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Differing:
    """Count the items that lm-eval encodes differently from ntpctp.

    Args:
        examples: with segments.
        tokenizer: used as by the model ``hf`` of lm-eval with default options.
    """
    other, elsewhere = 0, 0
    for example in examples:
        kinds = {_difference(example, answer, tokenizer) for answer in example.choices or ("",)}
        other += "tokens" in kinds
        elsewhere += kinds - {""} == {"place"}
    return Differing(other, elsewhere)


def _difference(example: Example, answer: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the difference for an answer, or the prompt alone: ``tokens``, ``place`` or empty."""
    if not answer:
        (encoded,) = encode([example], tokenizer)
        prompt = encoded.input_ids[: encoded.answer_start].tolist()
        same = tokenizer.encode(_prompt_of(example)) == prompt
        return "" if same else "tokens"
    segments = (*example.segments[:-1], Segment("answer", answer))
    (encoded,) = encode(
        [Example(segments, answer_marker=example.answer_marker, source=example.source)], tokenizer
    )
    # As lm_eval.api.model.TemplateLM._encode_pair.
    context = _prompt_of(example)
    whole = tokenizer.encode(context + answer + str(tokenizer.eos_token))
    if whole != encoded.input_ids.tolist():
        return "tokens"
    begins = int(np.argmax(encoded.has_role("answer")))
    return "" if len(tokenizer.encode(context.rstrip())) == begins else "place"


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8")
