"""A small experiment as files: what the report reads, written without training anything."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ntpctp._core.records import write_sealed
from ntpctp.analysis.comparison import ScoreComparison, compare
from ntpctp.config import Experiment, experiment_of
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.report.html import write_report
from ntpctp.runner.audit import AUDIT, audit
from ntpctp.runner.prepare import prepare

SCRIPT = "<script>alert(1)</script>"
NOT_CONVERGED = "not converged: residual 3.1 after 100 products"
STEPS = (0, 50, 100)
STRENGTHS = (0.0, 0.5, 1.0)


@dataclass
class Made:
    """An experiment with its scores, in a directory."""

    experiment: Experiment
    frame: pd.DataFrame
    output: Path

    @property
    def comparisons(self) -> list[ScoreComparison]:
        return compare(self.experiment, self.frame, self.output)

    def page(self) -> str:
        path = self.output / "report.html"
        write_report(self.experiment, self.frame, self.comparisons, self.output, path)
        return path.read_text("utf-8")


def make(
    output: Path,
    *,
    arms: Sequence[str] = ("ntp", "ctp"),
    seeds: int = 5,
    measures: Sequence[str] = ("accuracy", "robustness", "flatness"),
    steps: Mapping[str, int] | None = None,
    every: int = 50,
    question: str = "Which tokens should the loss see?",
) -> Made:
    """Write an experiment whose second arm is better and steadier."""
    output.mkdir(parents=True, exist_ok=True)
    data = output / "data.jsonl"
    lines = [{"prompt": f"{SCRIPT} {n}+{n}=", "answer": f"{2 * n}"} for n in range(40)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    last = {name: (steps or {}).get(name, STEPS[-1]) for name in arms}
    experiment = experiment_of(
        {
            "name": "made-up",
            "question": question,
            "task": {"name": "jsonl", "path": str(data), "test_size": 12},
            "tokenizer": "characters",
            "model": {"family": "gpt2", "layers": 1, "width": 8, "heads": 2},
            "training": {"steps": STEPS[-1], "batch_size": 4},
            "arms": {
                name: {
                    "objective": "ntp" if place == 0 else "ctp",
                    "training": {"steps": last[name], "weight_decay": 0.01 * (place + 1)},
                }
                for place, name in enumerate(arms)
            },
            "seeds": seeds,
            "evaluation": {"every": every, "measures": list(measures)},
        },
        "test",
    )
    rng = np.random.default_rng(0)
    rows = [
        row
        for place, name in enumerate(arms)
        for seed in experiment.seeds
        for row in _run(experiment, output, rng, name, place, seed, last[name], measures)
    ]
    provenance = {"data_fingerprint": "f1a9", "packages": {"torch": "2.13.0"}, "git": None}
    write_sealed(output / "provenance.json", provenance)
    write_sealed(output / AUDIT, audit(experiment, prepare(experiment)))
    frame = pd.DataFrame(rows).astype(
        {"higher_is_better": "boolean", "value": "float64", "strength": "float64"}
    )
    return Made(experiment, frame, output)


def _run(
    experiment: Experiment,
    output: Path,
    rng: np.random.Generator,
    name: str,
    place: int,
    seed: int,
    last: int,
    measures: Sequence[str],
) -> Iterator[dict[str, Any]]:
    stage = output / name / f"seed-{seed}" / "train"
    skill = 0.5 + 0.2 * place + rng.normal() * 0.15 / (1 + place)
    stage.mkdir(parents=True)
    (stage / "log.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "step": s,
                    "loss": 3 / s,
                    "tokens": 80 * s,
                    "supervised_tokens": 60 * s,
                    "seconds": 0.1 * s,
                }
            )
            + "\n"
            for s in range(1, last + 1)
        )
    )
    texts = [segment.text for e in experiment.task.split("test") for segment in e.segments]
    tokenizer = closed_tokenizer([*texts, *map(str, range(90))], "characters")
    for step in experiment.evaluation.checkpoint_steps(last):
        checkpoint = stage / f"step-{step:06d}"
        checkpoint.mkdir()
        if step == last:
            tokenizer.save_pretrained(checkpoint)
        common = {
            "experiment": "made-up", "arm": name, "seed": seed, "stage": "train", "step": step,
            "tokens": 80 * step, "supervised_tokens": 60 * step, "schema_version": 2,
        }  # fmt: skip
        for score in _scores(experiment, checkpoint, rng, skill * step / last, measures):
            yield common | score


def _scores(
    experiment: Experiment,
    checkpoint: Path,
    rng: np.random.Generator,
    skill: float,
    measures: Sequence[str],
) -> Iterator[dict[str, Any]]:
    items = experiment.task.split("test")
    (checkpoint / "evaluation").mkdir()

    def score(measure: str, split: str, name: str, value: float, **fields: Any) -> dict[str, Any]:
        return {
            "measure": measure, "split": split, "score": name, "stratum": None, "strength": None,
            "value": value,
            "unit": "share of items", "count": len(items), "standard_error": 0.02,
            "error_bound": None, "higher_is_better": True, "rows_key": None, "reason": None,
            "censored": False,
        } | fields  # fmt: skip

    if "accuracy" in measures:
        right = rng.random(len(items)) < skill
        rows = [
            {
                "split": "test",
                "item": n,
                "prediction": item.answer if right[n] else f"{SCRIPT}{n}",
                "reference": item.answer,
                "exact_match": int(right[n]),
            }
            for n, item in enumerate(items)
        ]
        path = checkpoint / "evaluation" / "accuracy.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        yield score("accuracy", "test", "exact_match", float(right.mean()), rows_key="exact_match")
        yield score(
            "accuracy", "test", "answer_loss", 2.5 - 2 * skill, unit="nats per token",
            higher_is_better=False,
        )  # fmt: skip
    if "robustness" in measures:
        for strength in STRENGTHS:
            yield score(
                "robustness", "test", "accuracy_under_noise", skill * (1 - strength / 2),
                strength=strength,
            )  # fmt: skip
    if "flatness" in measures:
        yield score(
            "flatness", "train", "top_eigenvalue_answer_loss", 400 * (1.1 - skill),
            unit="nats per token and squared unit of weight", higher_is_better=False,
            standard_error=None, error_bound=0.5,
        )  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Made]:
    return lambda **options: make(tmp_path / "run", **options)


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two arms, five seeds, and one eigenvalue that has not converged."""
    return with_a_gap(make(tmp_path_factory.mktemp("usual") / "run"))


def with_a_gap(made: Made) -> Made:
    """Take away the last eigenvalue of the first arm's seed 2."""
    gap = (
        (made.frame["arm"] == "ntp")
        & (made.frame["seed"] == 2)
        & (made.frame["step"] == STEPS[-1])
        & (made.frame["measure"] == "flatness")
    )
    made.frame.loc[gap, "value"] = np.nan
    made.frame.loc[gap, "reason"] = NOT_CONVERGED
    return made


@pytest.fixture(scope="session")
def usual_page(usual: Made) -> str:
    return usual.page()
