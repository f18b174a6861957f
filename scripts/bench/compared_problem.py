"""An experiment's directory with simulated results: everything a comparison reads, untrained.

All files lie where a run would write them: item rows and scores of three measures beside every
checkpoint, counters, logs, records. Weights, which no command here opens, are missing. The item
rows of earlier checkpoints are hard links to those of the last one to save disk space: a comparison
reads only the scores of earlier checkpoints.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ntpctp._core.files import sha256_of, write_json
from ntpctp._core.layout import (
    RunId,
    checkpoint_directory,
    rows_path,
    run_directory,
    stage_directory,
)
from ntpctp._core.records import write_sealed
from ntpctp.config import Experiment, experiment_of
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.measures import Score
from ntpctp.runner.audit import AUDIT, audit
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import RECORD

EVERY = 100
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)
NUM_NOISY, NUM_STRATA = 200, 4

Row = dict[str, Any]


def simulated(arms: int, seeds: int, items: int, checkpoints: int) -> Experiment:
    """Return an experiment on additions whose arms have increasing rates of wrong answers."""
    return experiment_of(
        {
            "name": "simulated",
            "task": {"name": "addition", "digits": 3, "train_size": 500, "test_size": items},
            "model": {"family": "gpt2", "layers": 2, "width": 64, "heads": 4},
            "training": {"steps": EVERY * (checkpoints - 1), "batch_size": 64},
            "arms": {
                f"wrong-{arm}": {"objective": {"name": "noisy", "rate": arm / (2 * arms)}}
                for arm in range(arms)
            },
            "seeds": seeds,
            "evaluation": {"every": EVERY, "measures": ["accuracy", "robustness", "flatness"]},
        },
        "bench",
    )


def make(directory: Path, experiment: Experiment) -> None:
    """Write the results of all runs of ``experiment`` into ``directory``."""
    directory.mkdir(parents=True)
    settings = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    (directory / "experiment.yaml").write_text(settings, "utf-8")
    write_sealed(directory / AUDIT, audit(experiment, prepare(experiment)))
    tokenizer = closed_tokenizer(["0123456789+="], "characters")
    answers = [example.answer for example in experiment.task.split("test")]
    for place, (name, arm) in enumerate(experiment.arms.items()):
        for seed in experiment.seeds:
            run, rng = RunId(name, seed), np.random.default_rng([place, seed])
            skill = 0.9 - 0.02 * place + 0.03 * rng.normal()
            results = _results(rng, skill, answers)
            _write_run(directory, experiment, run, results)
            last = checkpoint_directory(stage_directory(directory, run), arm.training.steps)
            tokenizer.save_pretrained(last)


def _write_run(
    directory: Path,
    experiment: Experiment,
    run: RunId,
    results: Mapping[str, tuple[list[Row], list[Score]]],
) -> None:
    write_sealed(run_directory(directory, run) / RECORD, {"run": {"data_fingerprint": "simulated"}})
    stage, steps = stage_directory(directory, run), experiment.arms[run.arm].training.steps
    stage.mkdir()
    with (stage / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(10, steps + 1, 10):
            line = {"loss": 300 / (step + 100), "learning_rate": 1e-3, "gradient_norm": 1.0}
            log.write(json.dumps({"step": step, **line, **_counters(step)}) + "\n")
    last = checkpoint_directory(stage, steps)
    for step in reversed(experiment.evaluation.checkpoint_steps(steps)):
        checkpoint = checkpoint_directory(stage, step)
        (checkpoint / "evaluation").mkdir(parents=True)
        write_json(checkpoint / "trainer_state.json", {"step": step, **_counters(step)})
        for measure in experiment.evaluation.measures:
            rows, scores = results[measure.name]
            path = rows_path(checkpoint, measure.name)
            if checkpoint == last or measure.name == "flatness":  # its rows are read at all steps
                with path.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(_row_at(row, step / steps)) + "\n" for row in rows)
            else:
                os.link(rows_path(last, measure.name), path)
            write_sealed(
                path.with_suffix(".json"),
                {
                    "key": "simulated",
                    "measure": measure.model_dump(mode="json", exclude={"at"}),
                    "version": measure.version,
                    "data_fingerprint": "simulated",
                    "rows_sha256": sha256_of(path),
                    "scores": [_at(score, step / steps) for score in scores],
                },
            )


def _counters(step: int) -> dict[str, float]:
    return {"tokens": 700 * step, "supervised_tokens": 300 * step, "seconds": 0.01 * step}


def _at(score: Score, share: float) -> dict[str, Any]:
    """Return a score as of ``share`` of the training."""
    row = score.as_dict()
    return row if row["value"] is None else {**row, "value": row["value"] * share}


def _row_at(row: Row, share: float) -> Row:
    """Return an item row as of ``share`` of the training."""
    if "mean_loss" not in row:
        return row
    return {**row, "mean_loss": row["mean_loss"] / (0.1 + share), "value": row["value"] * share}


def _results(
    rng: np.random.Generator, skill: float, answers: list[str]
) -> dict[str, tuple[list[Row], list[Score]]]:
    """Return measure -> item rows and scores of one run's last checkpoint."""
    rows = list(_answers(rng, skill, answers))
    noisy = list(_noisy(rng, skill))
    eigenvalue = float(400 * (1.2 - skill) * np.exp(0.1 * rng.normal()))
    factors = {"answer_loss": 1.0, "own_loss": 1.1, "half_answer_loss": 0.9}
    flatness = [
        Score(
            "flatness", "train", f"top_eigenvalue_{name}", eigenvalue * factor, "nats", 256, False
        )
        for name, factor in factors.items()
    ]
    return {
        "accuracy": (rows, list(_accuracy(rows))),
        "robustness": (noisy, list(_robustness(noisy))),
        "flatness": (list(_curvature(eigenvalue, skill)), flatness),
    }


def _curvature(eigenvalue: float, skill: float) -> Iterator[Row]:
    for loss in ("answer", "own", "answer, first half"):
        of_loss = {
            "split": "train",
            "loss": loss,
            "value": eigenvalue,
            "residual": 1e-3 * eigenvalue,
        }
        yield {**of_loss, "converged": True, "items": 256, "mean_loss": 1.2 - skill, "products": 12}


def _answers(rng: np.random.Generator, skill: float, answers: list[str]) -> Iterator[Row]:
    size = len(answers)
    easy = rng.normal(size=size)
    right = (rng.random(size) < skill).astype(int).tolist()
    forced = (rng.random(size) < skill).astype(int).tolist()
    losses = np.exp(easy - 2).tolist()
    sure = rng.random(size).tolist()
    for item, answer in enumerate(answers):
        yield {
            "split": "test",
            "item": item,
            "strata": [f"carries = {item % NUM_STRATA}"],
            "answer_loss_sum": losses[item],
            "answer_tokens": len(answer) + 1,
            "uncritical_loss_sum": 3 * losses[item],
            "uncritical_tokens": 8,
            "all_loss_sum": 4 * losses[item],
            "all_tokens": len(answer) + 9,
            "teacher_forced": forced[item],
            "prediction": answer if right[item] else answer[::-1] + "1",
            "reference": answer,
            "exact_match": right[item],
            "stopped": 1,
            "confidence": sure[item],
            "brier": (sure[item] - right[item]) ** 2,
        }


def _accuracy(rows: list[Row]) -> Iterator[Score]:
    for key in ("exact_match", "teacher_forced", "stopped", "brier"):
        values = np.array([row[key] for row in rows])
        higher = {"stopped": None, "brier": False}.get(key, True)
        yield _mean("accuracy", key, values, higher)
        for stratum in range(NUM_STRATA if higher else 0):
            of_stratum = values[stratum::NUM_STRATA]
            yield _mean("accuracy", key, of_stratum, higher, stratum=f"carries = {stratum}")
    for key in ("answer", "uncritical", "all"):
        total = sum(row[f"{key}_loss_sum"] for row in rows)
        loss = total / sum(row[f"{key}_tokens"] for row in rows)
        yield Score("accuracy", "test", f"{key}_loss", loss, "nats per token", len(rows), False)


def _noisy(rng: np.random.Generator, skill: float) -> Iterator[Row]:
    for item in range(NUM_NOISY):
        at = {s: float(rng.binomial(4, skill / (1 + s))) / 4 for s in STRENGTHS}
        yield {
            "split": "test",
            "item": item,
            **{f"accuracy_under_noise_{s:g}": at[s] for s in STRENGTHS},
            **{f"worst_of_draws_under_noise_{s:g}": float(at[s] == 1) for s in STRENGTHS},
            **{f"flip_rate_under_noise_{s:g}": abs(at[s] - at[0.0]) for s in STRENGTHS[1:]},
            "area_noise": float(np.trapezoid(list(at.values()), STRENGTHS) / STRENGTHS[-1]),
        }


def _robustness(rows: list[Row]) -> Iterator[Score]:
    for key in rows[0]:
        name, _, strength = key.rpartition("_")
        values = np.array([row[key] for row in rows])
        if key == "area_noise":
            yield _mean("robustness", key, values, True)
        elif "under" in key:
            higher = None if name.startswith("flip") else True
            yield _mean("robustness", name, values, higher, strength=float(strength), key=key)


def _mean(
    measure: str,
    name: str,
    values: np.ndarray,
    higher: bool | None,
    *,
    stratum: str | None = None,
    strength: float | None = None,
    key: str | None = None,
) -> Score:
    return Score(
        measure,
        "test",
        name,
        float(values.mean()),
        "squared probability" if name == "brier" else "share of items",
        len(values),
        higher,
        standard_error=float(values.std(ddof=1) / len(values) ** 0.5),
        rows_key=key or name,
        stratum=stratum,
        strength=strength,
    )
