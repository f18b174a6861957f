"""An experiment's directory with made-up results, written without training anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ntpctp._core.files import sha256_of, write_json, write_jsonl
from ntpctp._core.layout import (
    EXPERIMENT,
    RunId,
    checkpoint_directory,
    rows_path,
    run_directory,
    stage_directory,
)
from ntpctp._core.provenance import PROVENANCE
from ntpctp._core.records import write_sealed
from ntpctp.config import Experiment, experiment_of
from ntpctp.measures import Score
from ntpctp.runner.run import RECORD
from tests.conftest import tiny_content

ITEMS = 30
STEPS = 20


def simulate(
    output: Path,
    *,
    name: str = "made-up",
    arms: Mapping[str, float] = {"ntp": 0.5, "ctp": 0.7},
    seeds: int | Sequence[int] = 3,
    data: str = "the same data",
    items: Sequence[int] = range(ITEMS),
    **changes: Any,
) -> Experiment:
    """Write results as of ``items`` with an accuracy for each arm; ``data`` is a fingerprint."""
    objectives = {
        arm: {"objective": {"name": "noisy", "rate": k / 100}} for k, arm in enumerate(arms)
    }
    content = {
        "name": name,
        "arms": objectives,
        "seeds": list(seeds) if isinstance(seeds, Sequence) else seeds,
        "training": {"steps": STEPS, "batch_size": 8},
        "evaluation": {"every": 10, "measures": ["accuracy"]},
    }
    experiment = experiment_of(tiny_content(**{**content, **changes}), "simulated")
    output.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    (output / EXPERIMENT).write_text(text, "utf-8")
    write_sealed(output / PROVENANCE, {"data_fingerprint": data})
    for arm, skill in arms.items():
        for seed in experiment.seeds:
            run = RunId(arm, seed)
            record = {"run": {"data_fingerprint": data}}
            write_sealed(run_directory(output, run) / RECORD, record)
            rng = np.random.default_rng([seed, *arm.encode()])
            for step in experiment.evaluation.checkpoint_steps(experiment.arms[arm].training.steps):
                checkpoint = checkpoint_directory(stage_directory(output, run), step)
                counters = {"step": step, "tokens": 90 * step, "supervised_tokens": 50 * step}
                write_json(checkpoint / "trainer_state.json", counters)
                right = rng.random(len(items)) < skill * step / STEPS
                _write(experiment, checkpoint, right.astype(int), items)
    return experiment


def _write(
    experiment: Experiment, checkpoint: Path, right: np.ndarray, items: Sequence[int]
) -> None:
    (measure,) = experiment.evaluation.measures
    rows = [
        {"split": "test", "item": item, "strata": [f"kind = {item % 2}"], "exact_match": int(value)}
        for item, value in zip(items, right, strict=True)
    ]
    even = right[[item % 2 == 0 for item in items]]
    share = {"unit": "share of items", "higher_is_better": True}
    means = [
        Score(
            "accuracy",
            "test",
            "exact_match",
            float(of.mean()),
            count=len(of),
            standard_error=0.1,
            rows_key="exact_match",
            stratum=stratum,
            **share,
        )
        for of, stratum in ((right, None), (even, "kind = 0"))
    ]
    loss = 2 - float(right.mean())
    scores = [
        *means,
        Score("accuracy", "test", "answer_loss", loss, "nats per token", 9, False),
        Score("accuracy", "train", "exact_match", None, count=0, reason="no items", **share),
    ]
    path = rows_path(checkpoint, "accuracy")
    write_jsonl(path, rows)
    write_sealed(
        path.with_suffix(".json"),
        {
            "key": "made up",
            "measure": measure.model_dump(mode="json", exclude={"at"}),
            "version": measure.version,
            "data_fingerprint": "made up",
            "rows_sha256": sha256_of(path),
            "scores": [score.as_dict() for score in scores],
        },
    )
