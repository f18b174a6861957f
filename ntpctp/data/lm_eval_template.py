"""Items of an exported task, for lm-evaluation-harness; its YAML files name these functions.

An export holds a copy of this file, so that it can be moved and needs nothing of ntpctp (but for
tasks whose answers are compared by rules).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def load(items: str, split: str, eos_token: str = "", **metadata: Any) -> dict[str, Any]:
    """Return the items beside this file, by split.

    Args:
        items: name of the file.
        split: what they are called.
        eos_token: text of the end-of-sequence token, put behind every choice: a log-likelihood then
            counts that the answer ends there. Empty: it does not.
        metadata: the rest of what lm-eval knows; not used.
    """
    from datasets import Dataset

    lines = (Path(__file__).parent / items).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if "choices" in row:
            row["continuations"] = [choice + eos_token for choice in row["choices"]]
    return {split: Dataset.from_list(rows)}


def judge_choice(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return whether the right choice alone is the likeliest, summed and per character."""
    sums = [log_likelihood for log_likelihood, _ in results]
    by_length = [value / len(text) for value, text in zip(sums, doc["choices"], strict=True)]
    return {"acc": _best(sums, doc["right"]), "acc_norm": _best(by_length, doc["right"])}


def judge_answer(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether what was written, behind the last marker if there is one, is the answer."""
    text, marker = results[0], doc["marker"]
    if marker:
        text = text.rpartition(marker)[2] if marker in text else ""
    answer = doc["answer"]
    if doc["rules"]:
        from ntpctp.data.normalisation import normalised

        text, answer = normalised(text, doc["rules"]), normalised(answer, doc["rules"])
    return {"exact_match": float(text.strip() == answer.strip())}


def _best(values: Sequence[float], right: int) -> float:
    # A tie is wrong, wherever the right one stands.
    return float(values[right] == max(values) and values.count(values[right]) == 1)
