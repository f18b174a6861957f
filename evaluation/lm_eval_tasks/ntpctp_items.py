"""Functions that the YAML files of an exported task name, for lm-evaluation-harness.

An export contains a copy of this file, so that it works without ntpctp (except for tasks whose
answers are compared by rules).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def load(items: str, split: str, eos_token: str = "", **metadata: Any) -> dict[str, Any]:
    """Return the items beside this file, by split.

    Args:
        items: name of the file.
        split: name of the split.
        eos_token: text of the end-of-sequence token, appended to every choice, so that the
            log-likelihood includes the end of the answer. Empty: it does not.
        metadata: further arguments of lm-eval; ignored.
    """
    from datasets import Dataset

    lines = (Path(__file__).parent / items).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if "choices" in row:
            row["continuations"] = [choice + eos_token for choice in row["choices"]]
    return {split: Dataset.from_list(rows)}


def judge_choice(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Return whether the correct choice alone is the likeliest, by sum and per character."""
    sums = [log_likelihood for log_likelihood, _ in results]
    by_length = [value / len(text) for value, text in zip(sums, doc["choices"], strict=True)]
    return {"acc": _best(sums, doc["right"]), "acc_norm": _best(by_length, doc["right"])}


def judge_answer(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return whether the generated text, after the last marker if there is one, is the answer."""
    text, marker = results[0], doc["marker"]
    if marker:
        text = text.rpartition(marker)[2] if marker in text else ""
    answer = doc["answer"]
    if doc["rules"]:
        from ntpctp.data.normalisation import normalised

        text, answer = normalised(text, doc["rules"]), normalised(answer, doc["rules"])
    return {"exact_match": float(text.strip() == answer.strip())}


def _best(values: Sequence[float], right: int) -> float:
    # A tie counts as wrong, whatever the order of the choices.
    return float(values[right] == max(values) and values.count(values[right]) == 1)
