"""Arms see the same data, or it is said: what changes the data changes the run's record."""

import json
import multiprocessing
from contextlib import suppress

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, stage_directory
from ntpctp._core.records import write_sealed
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.config.stages import stages_of
from ntpctp.data.cache import encode_task
from ntpctp.data.tasks import Addition, JsonLines
from ntpctp.measures import Accuracy
from ntpctp.runner.engines import Local
from ntpctp.runner.evaluate import stored
from ntpctp.runner.experiment import run_experiment
from ntpctp.runner.prepare import initial_model, prepare
from ntpctp.runner.run import accelerator_for, execute, is_complete, train_run
from ntpctp.runner.stages import prepare_stages
from tests.config.test_stages import CONTENT, changed, with_stage

ONCE = {"steps": 2, "batch_size": 4}
ACCURACY = {"measures": [{"name": "accuracy"}]}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(number=20, start=0, **fields):
    return [{"prompt": f"q{n}?", "answer": str(n % 7), **fields} for n in range(start, number)]


def test_a_function_that_gives_other_examples_each_time(tiny, tmp_path, monkeypatch):
    (tmp_path / "unsteady.py").write_text(
        "import random\n"
        "def rows():\n"
        "    for n in range(20):\n"
        "        yield {'prompt': f'q{n}?', 'answer': str(random.randrange(9999))}\n"
    )
    monkeypatch.chdir(tmp_path)
    experiment = tiny(
        task={"name": "python", "function": "unsteady:rows"},
        tokenizer="characters",
        training=ONCE,
        evaluation=ACCURACY,
        seeds=1,
    )
    failures = run_experiment(
        experiment, tmp_path / "out", engine=Local(2), on_event=lambda _: None
    )
    assert set(failures) == {"ntp, seed 0", "ctp, seed 0"}
    for failure in failures.values():
        assert "'python' yields other examples each time it is read" in failure.message


def test_runs_on_different_data_are_not_compared(tiny, tmp_path):
    experiment = tiny(training=ONCE, evaluation=ACCURACY, seeds=1)
    data = prepare(experiment)
    for arm in experiment.arms:
        execute(experiment, data, RunId(arm, 0), tmp_path)
    assert len(collect(experiment, tmp_path))
    path = tmp_path / "ctp/seed-0/run.json"
    path.write_text(path.read_text().replace(data.fingerprint, "0" * 64))
    with pytest.raises(InputError, match="checksum mismatch"):
        collect(experiment, tmp_path)
    content = json.loads(path.read_text())
    del content["checksum"]
    write_sealed(path, content)  # as a run on other data has it
    with pytest.raises(
        InputError, match="ntp, seed 0 and ctp, seed 0 were trained on different data"
    ):
        collect(experiment, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"spans": [[1, 3]]},
        {"choices": ["0", "1", "2", "3", "4", "5", "6"]},
        {"reasoning": "because"},
        {"reasoning": "because", "marker": "@@ "},
        {"normalise": ["case"]},
    ],
)
def test_whatever_an_example_has_is_in_the_fingerprint(tmp_path, change):
    def fingerprints(fields, name):
        options = {"normalise": fields.pop("normalise", [])}
        options["answer_marker"] = fields.pop("marker", "#### ")
        path = lines(tmp_path / name, rows(**fields))
        return (
            encode_task(JsonLines(path=path, **options), "characters").splits["train"].fingerprint
        )

    base = {key: value for key, value in change.items() if key == "reasoning"}
    base = base if "marker" in change else {"spans": [[0, 1]]} if "spans" in change else {}
    first = fingerprints(dict(base), "a.jsonl")
    assert first == fingerprints(dict(base), "b.jsonl") != fingerprints(dict(change), "c.jsonl")


def test_the_vocabulary_is_in_the_fingerprint(tiny, tmp_path):
    def data(more):
        other = lines(tmp_path / "other.jsonl", [*rows(), {"prompt": more, "answer": "1"}])
        main = lines(tmp_path / "main.jsonl", rows(60, 20))
        parts = {
            "main": {"task": {"name": "jsonl", "path": main}},
            "other": {"task": {"name": "jsonl", "path": other}, "weight": 0, "measured": False},
        }
        task = {"name": "mixture", "parts": parts}
        return prepare(tiny(task=task, tokenizer="characters"))

    one, other, again = data("q?"), data("~"), data("q?")
    assert [len(d.tokenizer) for d in (one, other)] == [len(again.tokenizer)] * 1 + [
        len(one.tokenizer) + 1
    ]
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_with_and_without_a_cache_the_data_are_the_same(tiny, tmp_path):
    experiment = tiny()
    found = {prepare(experiment, cache).fingerprint for cache in (None, tmp_path, tmp_path)}
    assert len(found) == 1


def test_a_reference_with_other_weights_makes_another_run(tiny, tmp_path):
    experiment = tiny(training=ONCE, evaluation=ACCURACY)
    data = prepare(experiment)
    for seed in (0, 1):
        model = initial_model(experiment.arms["ntp"], data, seed)
        model.save_pretrained(tmp_path / f"ref{seed}")
    data.tokenizer.save_pretrained(tmp_path / "ref0")
    arms = {"rho": {"objective": {"name": "selective", "reference": str(tmp_path / "ref0")}}}
    experiment = tiny(training=ONCE, evaluation=ACCURACY, arms=arms)
    run = RunId("rho", 0)
    execute(experiment, data, run, tmp_path / "out")
    assert is_complete(experiment, data, run, tmp_path / "out")
    weights = "model.safetensors"
    (tmp_path / "ref0" / weights).write_bytes((tmp_path / "ref1" / weights).read_bytes())
    with pytest.raises(InputError, match=r"with other settings:\n  reference"):
        is_complete(experiment, data, run, tmp_path / "out")


def test_scores_of_other_options_are_not_those_asked_for(tiny, tmp_path, monkeypatch):
    def asked(size):
        measures = [{"name": "accuracy", "max_items": size}]
        return tiny(training=ONCE, evaluation={"measures": measures}, seeds=1)

    data, run = prepare(asked(2)), RunId("ntp", 0)
    execute(asked(2), data, run, tmp_path)
    assert len(collect(asked(2), tmp_path))
    with pytest.raises(InputError, match=r"other options of measure accuracy \(max_items\)"):
        collect(asked(4), tmp_path)
    checkpoint = stage_directory(tmp_path, run) / "step-000002"
    assert stored(checkpoint, Accuracy(max_items=2, at="last"))
    monkeypatch.setattr(Accuracy, "version", 99)
    assert stored(checkpoint, Accuracy(max_items=2)) is None


def contaminated(tmp_path):
    shared = rows(6)
    return {
        "pretrain": {"name": "jsonl", "path": lines(tmp_path / "p.jsonl", shared + rows(40, 20))},
        "finetune": {
            "name": "jsonl",
            "path": lines(tmp_path / "f.jsonl", rows(80, 60)),
            "test_path": lines(tmp_path / "t.jsonl", shared),
        },
    }


def test_no_stage_trains_on_what_a_later_one_is_tested_on(tmp_path):
    tasks = contaminated(tmp_path)
    stages = {name: {**block, "task": tasks[name]} for name, block in CONTENT["stages"].items()}
    content = changed(stages=stages) | {"tokenizer": "characters"}
    match = (
        r"'train of pretrain' \(.*p.jsonl, line \d\) and 'finetune.test' \(.*t.jsonl, line \d\) "
        "share an example: .* A held-out split must not be trained on, in an earlier stage"
    )
    with pytest.raises(InputError, match=match):
        prepare_stages(stages_of(content, "m.yaml"), tmp_path)


def test_parts_of_a_mixture_may_be_tested_on_the_same(tiny, tmp_path):
    test = lines(tmp_path / "t.jsonl", rows(5))
    parts = {
        name: {"task": {"name": "jsonl", "path": lines(tmp_path / name, found), "test_path": test}}
        for name, found in {"a": rows(40, 20), "b": rows(60, 40)}.items()
    }
    task = {"name": "mixture", "parts": parts}
    data = prepare(tiny(task=task, tokenizer="characters"))
    assert data.evaluation_splits == ("a.test", "b.test")
    parts["b"]["task"]["path"] = lines(tmp_path / "b", rows(60, 3))
    with pytest.raises(InputError, match=r"'train' .* and 'a.test' .* must not be trained on"):
        prepare(tiny(task=task, tokenizer="characters"))


@pytest.mark.slow
def test_stages_carry_on_wherever_they_are_called_from(tmp_path, ntpctp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms = {"late": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ctp"}}}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(changed(arms=arms, grid=None)))
    assert ntpctp("run", "m.yaml", "--output", "seed-0/out").code == 0
    logs = sorted(tmp_path.rglob("log.jsonl"))
    stamps = [log.stat().st_mtime_ns for log in logs]
    assert len(logs) == 4
    absolute = tmp_path / "seed-0/out"
    outcome = ntpctp("run", "m.yaml", "--output", absolute, "seeds=[1, 0]")
    assert outcome.code == 0, outcome.err
    assert [log.stat().st_mtime_ns for log in logs] == stamps
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ntpctp("evaluate", absolute / "finetune").code == 0


def test_the_checkpoint_of_a_seed_is_named_by_its_own_directory(tmp_path):
    found = stages_of(CONTENT, "m.yaml").experiments(tmp_path / "seed-0/out")
    checkpoint = found["finetune"].arms["ntp-ctp"].model.checkpoint
    path = "seed-0/out/pretrain/ntp/seed-{seed}/train/step-000006"
    assert checkpoint == str(tmp_path / path)


@pytest.mark.parametrize(
    "content, match",
    [
        (
            changed(grid={"finetune.model.dropout": [0.0, 0.5]}),
            "grid.finetune.model.dropout: later stages continue with the model of the first",
        ),
        (
            changed(grid=None, arms={"b": {"finetune": {"model": {"dropout": 0.5}}}}),
            "arms.b.finetune.model: later stages continue with the model of the first stage; "
            "write arms.b.model instead",
        ),
        (
            with_stage("finetune", tokenizer="words"),
            "finetune.tokenizer: all stages share tokenizer",
        ),
    ],
)
def test_a_later_stage_has_no_model_of_its_own(content, match):
    with pytest.raises(InputError, match=match):
        stages_of(content, "m.yaml")


def _encode(cache):
    for seed in range(4):
        for _ in range(3):
            task = Addition(digits=1, train_size=20, test_size=9, seed=seed)
            encode_task(task, "characters", cache)
            for path in cache.glob("*/record.json"):
                # Damaged, while others may be reading; or have just put the damaged entry aside.
                with suppress(FileNotFoundError):
                    path.write_text("{")


def test_processes_share_a_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as pool:
        pool.map(_encode, [tmp_path] * 3)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_training_again_with_a_moved_start_is_the_same_run(tiny, tmp_path):
    base = tiny(training=ONCE)
    data = prepare(base)
    initial_model(base.arms["ntp"], data, 0).save_pretrained(tmp_path / "a")
    data.tokenizer.save_pretrained(tmp_path / "a")
    for name in ("a", "b"):
        experiment = tiny(training=ONCE, model={"checkpoint": str(tmp_path / name)})
        run = RunId("ctp", 0)
        accelerator = accelerator_for(experiment, run, tmp_path / "out")
        train_run(experiment, prepare(experiment), run, tmp_path / "out", accelerator)
        if name == "a":
            (tmp_path / "a").rename(tmp_path / "b")


def test_the_same_data_may_lie_elsewhere_and_other_data_may_not(tiny, tmp_path):
    def trained(name, number):
        task = {"name": "jsonl", "path": lines(tmp_path / name, rows(number))}
        experiment = tiny(task=task, tokenizer="characters", training=ONCE)
        run, data = RunId("ntp", 0), prepare(experiment)
        accelerator = accelerator_for(experiment, run, tmp_path / "out")
        train_run(experiment, data, run, tmp_path / "out", accelerator)

    trained("a.jsonl", 20)
    trained("b.jsonl", 20)
    with pytest.raises(InputError, match=r"data_fingerprint: .*\n  task.path: .*a.jsonl' in run"):
        trained("c.jsonl", 21)
