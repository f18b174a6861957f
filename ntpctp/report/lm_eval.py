"""Results in the layout of lm-evaluation-harness, for tools that read its results.

The file ``lm_eval_results.json`` is written beside the results. Scores that are null, of one
stratum, or at one strength of a perturbation do not fit that layout and are left out.
"""

import re
from pathlib import Path
from typing import Any

from ntpctp._core.files import write_json
from ntpctp._core.provenance import provenance
from ntpctp.data.lm_eval_export import task_name
from ntpctp.measures import MEASURES, Score
from ntpctp.runner.evaluate_paths import CheckpointResult, TaskResult

FILE = "lm_eval_results.json"
_METRICS = {"choice": "acc", "choice_normalised": "acc_norm"}
"""Scores with another name in lm-eval; the others keep their name."""


def write_lm_eval_results(outcome: CheckpointResult) -> Path:
    """Write the results of one checkpoint; return the path."""
    write_json(outcome.directory / FILE, lm_eval_results(outcome))
    return outcome.directory / FILE


def lm_eval_results(outcome: CheckpointResult) -> dict[str, Any]:
    """Return the results of one checkpoint, every split of a task as one lm-eval task.

    ``versions`` are those of the measure, which increase with every change that affects scores;
    ``total_evaluation_time_seconds`` is the time of this call, short if results were stored.
    """
    results: dict[str, dict[str, Any]] = {}
    higher: dict[str, dict[str, bool | None]] = {}
    configs, versions, samples = {}, {}, {}
    for result in outcome.measured:
        for split, scores in _by_split(result).items():
            name = task_name(result.name, split)
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
            samples[name] = {"original": result.sizes[split], "effective": effective}
            configs[name] = _config(result, name, split, list(higher[name]), versions[name])
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


def _by_split(result: TaskResult) -> dict[str, list[Score]]:
    """Return the scores that fit the layout, by split, accuracy first."""
    by_split: dict[str, list[Score]] = {}
    for score in result.scores:
        if score.value is not None and score.stratum is None and score.strength is None:
            by_split.setdefault(score.split, []).append(score)
    return {
        split: sorted(scores, key=lambda score: score.measure != "accuracy")
        for split, scores in by_split.items()
    }


def _config(
    result: TaskResult, name: str, split: str, metrics: list[str], version: int
) -> dict[str, Any]:
    return {
        "task": name,
        "tag": task_name(result.name),
        "dataset_path": "ntpctp",
        "dataset_name": result.task.name,
        "dataset_kwargs": result.task.model_dump(mode="json"),
        "test_split": split,
        "num_fewshot": 0,
        "metric_list": [{"metric": metric} for metric in metrics],
        "metadata": {"version": version},
    }
