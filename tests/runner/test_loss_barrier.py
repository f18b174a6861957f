"""The loss between two arms' weights, against an interpolation by hand in float64."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.config import experiment_of
from ntpctp.models import checkpoint_state
from ntpctp.models.build import build_model
from ntpctp.models.checkpoints import Progress
from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from ntpctp.report.html.loss_barrier import path_sections
from ntpctp.runner import loss_barrier
from ntpctp.runner.loss_barrier import measure_paths, read_paths
from ntpctp.runner.prepare import prepare

SETTINGS = {
    "name": "paths",
    "task": {"name": "addition", "digits": 1, "train_size": 20, "test_size": 5},
    "model": {"family": "gpt2", "layers": 1, "width": 8, "heads": 2},
    "training": {"steps": 7, "batch_size": 4},
    "arms": {"ntp": {"objective": "ntp"}, "ctp": {"objective": "ctp"}},
    "seeds": 3,
    "comparison": {"loss_path": {"points": 5, "max_items": 11}},
}


def trained(output, settings=SETTINGS):
    """Write the last checkpoints of all runs, each trained a little under its objective."""
    experiment = experiment_of(settings, "test")
    data = prepare(experiment)
    rows = data.splits["train"].encoded
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            model = build_model(arm.model, data.tokenizer, data.longest, seed=seed)
            optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
            for step in range(25):
                batch = SupervisedExamples(rows, arm.objective).batch(range(len(rows)), step)
                loss, weight = token_loss(model, batch)
                (loss / weight).backward()
                optimizer.step()
                optimizer.zero_grad()
            stage = stage_directory(output, RunId(name, seed))
            path = checkpoint_directory(stage, arm.training.steps)
            path.parent.mkdir(parents=True)
            checkpoint_state.save(
                path, checkpoint_state.snapshot(model), data.tokenizer, Progress(7)
            )
    return experiment, data


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    output = tmp_path_factory.mktemp("paths")
    experiment, data = trained(output)
    events = []
    measure_paths(experiment, data, output, events.append)
    return experiment, data, output, events


def by_hand(experiment, data, output, seed):
    """The losses, by transformers' logits and torch's cross entropy on interpolated state dicts."""
    stages = [stage_directory(output, RunId(arm, seed)) for arm in ("ntp", "ctp")]
    models = [AutoModelForCausalLM.from_pretrained(stage / "step-000007") for stage in stages]
    start, end = (
        {name: value.double() for name, value in model.state_dict().items()} for model in models
    )
    model = models[0].double()
    rows = data.splits["train"].encoded[:11]
    batch = SupervisedExamples(rows, CTP()).batch(range(11), 0)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["labels"][:, 1:].flatten()
    losses = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        model.load_state_dict({name: (1 - t) * start[name] + t * end[name] for name in start})
        with torch.no_grad():
            logits = model(**inputs).logits[:, :-1].flatten(0, 1)
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)))
    return np.array(losses)


def test_equals_an_interpolation_by_hand(measured):
    experiment, data, output, events = measured
    rows = read_paths(output)
    assert [(row["a"], row["b"], row["seed"]) for row in rows] == [
        ("ntp", "ctp", s) for s in range(3)
    ]
    for row in rows:
        expected = by_hand(experiment, data, output, row["seed"])
        np.testing.assert_allclose(row["losses"], expected, rtol=2e-5)
        chord = np.linspace(expected[0], expected[-1], 5)
        barrier = max(0.0, float((expected - chord).max()))
        assert row["barrier"] == pytest.approx(barrier, rel=1e-3, abs=2e-5)
        assert (row["items"], row["reason"]) == (11, None)
    assert max(row["barrier"] for row in rows) > 0.01
    assert len({round(row["losses"][2], 4) for row in rows}) == 3
    assert [(event.done, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]


def test_what_holds_is_not_computed_again_and_other_weights_are(measured, monkeypatch):
    experiment, data, output, _ = measured
    file = output / loss_barrier.PATHS
    before = file.read_bytes()
    computed = []
    original = loss_barrier.loss_path
    monkeypatch.setattr(
        loss_barrier,
        "loss_path",
        lambda *args, **options: computed.append(1) or original(*args, **options),
    )
    measure_paths(experiment, data, output)
    assert not computed and file.read_bytes() == before
    content = read_sealed(file, "")
    content["rows"][1]["key"] = "of other weights"
    write_sealed(file, content)
    measure_paths(experiment, data, output)
    assert len(computed) == 1 and file.read_bytes() == before
    file.write_text('{"rows": 7}')
    with pytest.raises(InputError, match=r"loss-paths\.json: damaged.* measures it again"):
        read_paths(output)
    measure_paths(experiment, data, output)
    assert len(computed) == 4 and file.read_bytes() == before


def test_the_report_draws_every_seed_and_their_mean(measured):
    experiment, _, output, _ = measured
    (section,) = path_sections(experiment, output)
    (panel,) = section.panels
    assert panel.title == "From ntp to ctp, train" and len(panel.figure["data"]) == 3
    barriers = [row["barrier"] for row in read_paths(output)]
    assert f"mean barrier {np.mean(barriers):.4g}" in panel.note and "95" in panel.note
    assert len(panel.table.rows) == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"width": 4}, "n_embd is 8 in one and 4 in the other"),
        (
            {"layers": 2},
            "n_layer is 1 in one and 2 in the other",
        ),  # one would fit
        ({"heads": 1}, "n_head is 2 in one and 1 in the other"),  # all shapes fit
    ],
)
def test_arms_of_other_models_have_no_path(tmp_path, model, message):
    settings = json.loads(json.dumps(SETTINGS))
    settings["arms"]["ctp"]["model"] = model
    settings["seeds"] = 1
    experiment, data = trained(tmp_path, settings)
    measure_paths(experiment, data, tmp_path)
    (row,) = read_paths(tmp_path)
    assert row["barrier"] is None and message in row["reason"]
    (section,) = path_sections(experiment, tmp_path)
    assert "no barrier" in section.panels[0].note and section.panels[0].warnings


def test_another_initialisation_or_dropout_is_no_other_model(tmp_path):
    settings = json.loads(json.dumps(SETTINGS))
    settings["arms"]["ctp"]["model"] = {"init_rate": 0.9, "dropout": 0.1}
    settings["seeds"] = 1
    experiment, data = trained(tmp_path, settings)
    measure_paths(experiment, data, tmp_path)
    (row,) = read_paths(tmp_path)
    assert row["reason"] is None and row["barrier"] is not None


def test_what_was_measured_before_an_interruption_is_kept(measured):
    experiment, data, output, _ = measured
    before = read_paths(output)
    (output / loss_barrier.PATHS).unlink()

    def interrupt(event):
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_paths(experiment, data, output, interrupt)
    assert read_paths(output) == before[:2]
    measure_paths(experiment, data, output)
    assert read_paths(output) == before


def test_a_split_that_is_not_there_is_found_before_training():
    settings = json.loads(json.dumps(SETTINGS))
    settings["comparison"]["loss_path"]["split"] = "tset"
    with pytest.raises(InputError, match=r"split of comparison.loss_path 'tset'.*'test'"):
        prepare(experiment_of(settings, "test"))


def test_nothing_is_measured_unless_asked_for(tmp_path):
    settings = {name: value for name, value in SETTINGS.items() if name != "comparison"}
    experiment = experiment_of(settings, "test")
    measure_paths(experiment, prepare(experiment), tmp_path)
    assert not list(tmp_path.iterdir()) and path_sections(experiment, tmp_path) == []
