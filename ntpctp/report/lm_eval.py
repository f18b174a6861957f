"""What was measured, in the layout of lm-evaluation-harness: for the tools that read its results.

Written as ``lm_eval_results.json`` beside the results themselves. Only what was measured is there;
what is null, of one stratum, or at one strength of a perturbation has no place in that layout.
"""

import re
from pathlib import Path
from typing import Any

from ntpctp._core.files import write_json
from ntpctp._core.provenance import provenance
from ntpctp.data.lm_eval_export import task_name
from ntpctp.measures import MEASURES, Score
from ntpctp.runner.evaluate_paths import Outcome, TaskResult

FILE = "lm_eval_results.json"
_METRICS = {"choice": "acc", "choice_normalised": "acc_norm"}
"""Scores that have another name there; the others keep their own."""


def write_lm_eval_results(outcome: Outcome) -> Path:
    """Write the results of one checkpoint; return the file."""
    path = outcome.directory / FILE
    write_json(path, lm_eval_results(outcome))
    return path


def lm_eval_results(outcome: Outcome) -> dict[str, Any]:
    """Return the results of one checkpoint, every split of a task as a task.

    ``versions`` are those of the measure, which go up with every change that moves a number;
    ``total_evaluation_time_seconds`` is that of this call, little where results were stored.
    """
    results: dict[str, dict[str, Any]] = {}
    higher: dict[str, dict[str, bool | None]] = {}
    configs, versions, samples = {}, {}, {}
    for measured in outcome.measured:
        for split, scores in _by_split(measured).items():
            name = task_name(measured.name, split)
            # The first score of a measure is one over items.
            of_answers = [score.count for score in scores if score.measure == "accuracy"]
            effective = max(of_answers, default=scores[0].count)
            results[name] = {"name": name, "alias": name, "sample_len": effective}
            higher[name] = {}
            for score in scores:
                metric = _METRICS.get(score.score, score.score)
                error = score.standard_error
                results[name][f"{metric},none"] = score.value
                results[name][f"{metric}_stderr,none"] = "N/A" if error is None else error
                higher[name][metric] = score.higher_is_better
            versions[name] = MEASURES[scores[0].measure].version
            samples[name] = {"original": measured.sizes[split], "effective": effective}
            configs[name] = _config(measured, name, split, list(higher[name]), versions[name])
    origin = provenance()
    model = outcome.target.given
    return {
        "results": results,
        "group_subtasks": {},
        "configs": configs,
        "versions": versions,
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": higher,
        "n-samples": samples,
        "config": {
            "model": "ntpctp",
            "model_args": {"pretrained": model},
            "device": outcome.device,
        },
        "git_hash": (origin["git"] or {}).get("commit"),
        "date": outcome.started,
        "transformers_version": origin["packages"]["transformers"],
        "model_source": "ntpctp",
        "model_name": model,
        "model_name_sanitized": re.sub(r'["<>:/|\\?*\[\]]+', "__", model),
        "total_evaluation_time_seconds": str(outcome.seconds),
    }


def _by_split(measured: TaskResult) -> dict[str, list[Score]]:
    """Return the scores that can be told, accuracy first."""
    found: dict[str, list[Score]] = {}
    for score in measured.scores:
        if score.value is not None and score.stratum is None and score.strength is None:
            found.setdefault(score.split, []).append(score)
    return {
        split: sorted(scores, key=lambda score: score.measure != "accuracy")
        for split, scores in found.items()
    }


def _config(
    measured: TaskResult, name: str, split: str, metrics: list[str], version: int
) -> dict[str, Any]:
    return {
        "task": name,
        "tag": task_name(measured.name),
        "dataset_path": "ntpctp",
        "dataset_name": measured.task.name,
        "dataset_kwargs": measured.task.model_dump(mode="json"),
        "test_split": split,
        "num_fewshot": 0,
        "metric_list": [{"metric": metric} for metric in metrics],
        "metadata": {"version": version},
    }
