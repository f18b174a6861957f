"""Experiment files that are YAML, and do not make sense."""

import pytest

from tests.bad_input.refusal import Case, check, experiment
from tests.conftest import TINY

ADDITION = {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20}
MODULAR = {"name": "modular", "modulus": 7}
TRAINING = {"steps": 4, "batch_size": 8}
STAGED = {
    "task": None,
    "training": None,
    "arms": {"a": {"first": {"objective": "ntp"}, "second": {"objective": "ntp"}}},
    "stages": {
        "first": {"task": ADDITION, "training": TRAINING},
        "second": {"task": MODULAR, "training": TRAINING},
    },
}
GRID = {"arms": None, "grid": {"objective": ["ntp", "ctp"]}}
MAP = {"map": {"task.train_size": [40, 60]}}


def arms(**arm):
    return {"arms": {"a": {"objective": "ntp", **arm}}}


def staged(messages, *overrides, **changes):
    return experiment({**STAGED, **changes}, messages, *overrides)


CASES: dict[str, Case] = {
    # fields
    "unknown field": experiment(
        {"trainig": {}}, ["trainig: unknown field; did you mean 'training'?"]
    ),
    "unknown nested field": experiment(
        {"model": {"family": "gpt2", "layer": 2}},
        ["line ", "model.layer: unknown field; did you mean 'layers'?"],
    ),
    "missing field": experiment({"model": None}, ["model: required field is missing"]),
    "several errors at once": experiment(
        {"seeds": 0, "nmae": "x"},
        ["3 errors", "seeds:", "nmae:", "training.steps:"],
        "training.steps=-1",
    ),
    "error in an arm's own block only": experiment(
        arms(training={"weight_decays": 1}),
        ["1 error\n", "arms.a.training.weight_decays: unknown field; did you mean 'weight_decay'?"],
    ),
    "block that is a list": experiment({"model": [1, 2]}, ["model: expected a block of fields"]),
    "block that is text": experiment(
        {"evaluation": "often"}, ["evaluation: expected a block of fields, found 'often'"]
    ),
    "field that is a number": experiment(
        {"model": {"family": "gpt2", 7: 1}},
        ["line 7: model.7: expected the name of a field, found 7"],
    ),
    # numbers
    "wrong type": experiment(
        {}, ["training.steps: expected a whole number, found 'many'"], "training.steps=many"
    ),
    "true is no number": experiment(
        {}, ["training.steps: expected a whole number, found True"], "training.steps=true"
    ),
    "fraction of a step": experiment(
        {}, ["training.steps: expected a whole number, found 1.5"], "training.steps=1.5"
    ),
    "out of range": experiment(
        {},
        ["training.batch_size: expected greater than or equal to 1, found 0"],
        "training.batch_size=0",
    ),
    "learning rate that is not a number": experiment(
        {},
        ["training.learning_rate: expected a finite number, found nan"],
        "training.learning_rate=.nan",
    ),
    "learning rate that is infinite": experiment(
        {},
        ["training.learning_rate: expected a finite number, found inf"],
        "training.learning_rate=.inf",
    ),
    "weight decay that is infinite": experiment(
        {}, ["training.weight_decay: ", "found inf"], "training.weight_decay=.inf"
    ),
    "weight decay that overflows": experiment(
        {}, ["training.weight_decay: ", "found inf"], "training.weight_decay=1e999"
    ),
    "epsilon that is not a number": experiment(
        {}, ["training.epsilon: ", "found nan"], "training.epsilon=.nan"
    ),
    "betas that are infinite": experiment({}, ["training.betas"], "training.betas=[.nan, .inf]"),
    "betas out of range": experiment(
        {},
        ["training: betas: expected two numbers in [0, 1), found [0.9, 1.5]"],
        "training.betas=[0.9, 1.5]",
    ),
    "betas of three": experiment({}, ["training.betas"], "training.betas=[0.9, 0.9, 0.9]"),
    "margin that is not a number": experiment(
        {"comparison": {"margin": {"exact_match": float("nan")}}},
        ["comparison.margin.exact_match: "],
    ),
    "target that is infinite": experiment(
        {"comparison": {"targets": {"exact_match": float("inf")}}},
        ["comparison.targets.exact_match: "],
    ),
    "level of certainty": experiment({}, ["comparison.level: "], "comparison.level=1.0"),
    "noise that is not a number": experiment(
        {}, ["training.embedding_noise: "], "training.embedding_noise=.nan"
    ),
    "strengths that are not numbers": experiment(
        {"evaluation": {"measures": [{"name": "robustness", "strengths": [float("nan")]}]}},
        ["evaluation.measures"],
    ),
    "number of steps without end": experiment({}, ["training.steps: "], f"training.steps={10**30}"),
    "seeds without end": experiment(
        {}, ["seeds: expected at most 100000 seeds"], f"seeds={10**10}"
    ),
    "seed beyond 64 bits": experiment({"seeds": [2**70]}, ["seeds: expected numbers below 2**63"]),
    "batch beyond 64 bits": experiment(
        {}, ["training.batch_size: "], f"training.batch_size={10**30}"
    ),
    "width without end": experiment(
        {}, ["model.width: expected less than or equal to 1000000"], "model.width=10000000"
    ),
    "layers without end": experiment({}, ["model.layers: "], f"model.layers={10**12}"),
    "context beyond 64 bits": experiment(
        {}, ["model.context: expected less than"], f"model.context={10**30}"
    ),
    "text of digits for a number": experiment(
        {"training": {**TINY["training"], "steps": "100"}},
        ["training.steps: expected a whole number, found '100'"],
    ),
    "warm-up longer than training": experiment(
        {}, ["warmup_steps 9 exceeds steps 8"], "training.warmup_steps=9"
    ),
    "neither steps nor budget": experiment(
        {"training": {"batch_size": 8}}, ["expected steps or a budget, found neither"]
    ),
    "budget of two kinds": experiment(
        {"training": {"batch_size": 8, "budget": {"epochs": 1, "tokens": 5}}},
        ["expected one of epochs, tokens", "found epochs, tokens"],
    ),
    "budget that is not a number": experiment(
        {"training": {"batch_size": 8, "budget": {"epochs": float("nan")}}},
        ["training.budget.epochs: expected a finite number"],
    ),
    "budget without end": experiment(
        {"training": {"batch_size": 8, "budget": {"epochs": 1e300}}},
        ["training.budget epochs: 1e+300 takes more than 1000000000 steps. Lower it"],
    ),
    "option of another optimizer": experiment(
        {}, ["momentum: not an option of the optimizer adamw"], "training.momentum=0.5"
    ),
    # names
    "unknown objective": experiment(
        {"arms": {"a": {"objective": "npt"}}},
        ["arms.a.objective: unknown name 'npt'; did you mean 'ntp'?"],
    ),
    "unknown task": experiment(
        {"task": "adition"}, ["task: unknown name 'adition'; did you mean 'addi"]
    ),
    "unknown measure": experiment(
        {"evaluation": {"measures": ["acuracy"]}},
        ["unknown name 'acuracy'; did you mean 'accuracy'?"],
    ),
    "objective that is a number": experiment(
        {"arms": {"a": {"objective": 3}}}, ["arms.a.objective: expected a block of fields, found 3"]
    ),
    "objective without a name": experiment(
        {"arms": {"a": {"objective": {"weight": 1}}}}, ["arms.a.objective: "]
    ),
    "objective with an unknown option": experiment(
        {"arms": {"a": {"objective": {"name": "ntp", "wieght": 1}}}},
        ["arms.a.objective.wieght: unknown field"],
    ),
    "name that is a number": experiment({"name": 7}, ["name: expected text, found 7"]),
    "name that is empty": experiment({"name": ""}, ["name: expected a name of letters"]),
    "name that is too long": experiment({"name": "a" * 101}, ["name: expected a name of letters"]),
    "experiment that leaves the directory": experiment(
        {"name": "/tmp/x"}, ["name: expected a name of"]
    ),
    "arm that leaves the directory": experiment(
        {"arms": {"../x": {"objective": "ntp"}}}, ["expected a name of letters, digits"]
    ),
    "arm with a line break": experiment(
        {"arms": {"a\n": {"objective": "ntp"}}}, ["expected a name of letters, digits"]
    ),
    "arm that is called by a number": experiment(
        {"arms": {1: {"objective": "ntp"}}}, ["arms.1", "expected text, found 1"]
    ),
    "arm that YAML takes for true": experiment(
        {"arms": {True: {"objective": "ntp"}}}, ["arms", "expected text, found True"]
    ),
    "unknown tracker": experiment(
        {"trackers": ["wandbb"]}, ["trackers.0: expected 'tensorboard'", "found 'wandbb'"]
    ),
    "unknown baseline": experiment(
        {}, ["expected one of the arms ['ntp', 'ctp']", "found 'npt'"], "comparison.baseline=npt"
    ),
    # arms and seeds
    "empty arms": experiment({"arms": {}}, ["arms: expected at least 1 entry"]),
    "arms in a list": experiment({"arms": ["ntp", "ctp"]}, ["arms: expected a block of fields"]),
    "arm without content": experiment(
        {"arms": {"a": None}}, ["arms.a: expected a block of fields, found None"]
    ),
    "arm that is text": experiment(
        {"arms": {"a": "ntp"}}, ["arms.a: expected a block of fields, found 'ntp'"]
    ),
    "arms alike": experiment(
        {"arms": {"a": {"objective": "ntp"}, "b": {"objective": {"name": "ntp"}}}},
        ["arms: 'a' and 'b' are equal in every field"],
    ),
    "no seeds": experiment({}, ["seeds: expected at least 1 seed, found 0"], "seeds=0"),
    "empty seeds": experiment({"seeds": []}, ["seeds: expected at least 1 entry"]),
    "seed twice": experiment({"seeds": [1, 1]}, ["expected distinct non-negative numbers"]),
    "negative seed": experiment({"seeds": [-1]}, ["expected distinct non-negative numbers"]),
    "seeds in words": experiment({"seeds": "three"}, ["seeds: expected a list, found 'three'"]),
    # model
    "unknown family": experiment(
        {}, ["unknown family 'gtp2'; did you mean 'gpt2'?"], "model.family=gtp2"
    ),
    "family that is not causal": experiment(
        {}, ["'bert' attends to later tokens"], "model.family=bert"
    ),
    "family that is no language model": experiment(
        {}, ["model.family 'vit' with 1 layers", "AutoModelForCausalLM"], "model.family=vit"
    ),
    "width that heads do not divide": experiment(
        {}, ["width 16 is not a multiple of heads 3"], "model.heads=3"
    ),
    "family and checkpoint": experiment(
        {}, ["give either family or checkpoint"], "model.checkpoint=gpt2"
    ),
    "size of a checkpoint": experiment(
        {"model": {"checkpoint": "gpt2", "layers": 3}},
        ["layers: fixed by the checkpoint, remove them"],
    ),
    "unknown field of a family": experiment(
        {"model": {**TINY["model"], "config": {"n_heads": 2}}},
        ["model.config.n_heads: not a field of family 'gpt2'"],
    ),
    "field of a family of the wrong type": experiment(
        {"model": {**TINY["model"], "config": {"n_inner": "wide"}}},
        ["model.family 'gpt2' with 1 layers and width 16 cannot be built", "n_inner", "wide"],
    ),
    "unknown activation": experiment(
        {"model": {**TINY["model"], "config": {"activation_function": "relo"}}},
        ["cannot be built: KeyError: 'relo'"],
    ),
    "negative vocabulary": experiment(
        {"model": {**TINY["model"], "config": {"vocab_size": -1}}},
        ["cannot be built", "negative dimension -1"],
    ),
    "vocabulary smaller than the task's": experiment(
        {"model": {**TINY["model"], "config": {"vocab_size": 3}}},
        ["model.config.vocab_size: its vocabulary has 3 tokens, the tokenizer 15; leave it out"],
    ),
    "context too small": experiment(
        {},
        ["example 0: has 7 tokens", "context is 4", "nothing is truncated"],
        "model.context=4",
    ),
    "no such checkpoint": experiment(
        {"model": {"checkpoint": "DIR/nowhere"}, "tokenizer": "characters"},
        ["cannot load a model from"],
    ),
    "no checkpoint of a seed": experiment(
        {"model": {"checkpoint": "DIR/{seed}/model"}, "tokenizer": "characters"},
        ["expected a directory for seed 0", "train that seed first"],
    ),
    "unknown precision": experiment({}, ["model.dtype: ", "found 'float8'"], "model.dtype=float8"),
    # task
    "too few pairs": experiment({}, ["give only 100 different pairs"], "task.train_size=99"),
    "anchors that leave one position": experiment(
        {"task": {"name": "anchor", "length": 3, "train_size": 40, "test_size": 10}},
        ["task", "length = 3 leaves one position for the key", "or choose hold_out: code"],
    ),
    "task option out of range": experiment({}, ["task.digits: "], "task.digits=0"),
    "unknown task option": experiment(
        {}, ["task.digit: unknown field; did you mean 'digits'?"], "task.digit=2"
    ),
    "mixture of nothing": experiment(
        {"task": {"name": "mixture", "parts": {}}}, ["task.parts: expected at least 1 entry"]
    ),
    "mixture that trains on nothing": experiment(
        {"task": {"name": "mixture", "parts": {"a": {"task": ADDITION, "weight": 0}}}},
        ["all weights are 0"],
    ),
    "weight that is not a number": experiment(
        {"task": {"name": "mixture", "parts": {"a": {"task": ADDITION, "weight": float("nan")}}}},
        ["task.parts.a.weight: expected a finite number"],
    ),
    "pattern that is no expression": experiment(
        {"task": {"name": "jsonl", "path": "x", "pattern": "("}},
        ["task.pattern: not a regular expression"],
    ),
    "function without a module": experiment(
        {"task": {"name": "python", "function": "squares"}, "tokenizer": "characters"},
        ["task.function"],
    ),
    "function of a module that is not there": experiment(
        {"task": {"name": "python", "function": "no_such_module:rows"}, "tokenizer": "characters"},
        ["cannot import no_such_module"],
    ),
    # evaluation
    "measure twice": experiment(
        {"evaluation": {"measures": ["accuracy", "accuracy"]}}, ["a measure is listed twice"]
    ),
    "no measure": experiment({"evaluation": {"measures": []}}, ["expected at least 1 entry"]),
    "checkpoints never": experiment(
        {}, ["expected a number of steps, at least 1", "found 0"], "evaluation.every=0"
    ),
    "checkpoints at a word": experiment(
        {}, ["expected a number of steps", "found 'daily'"], "evaluation.every=daily"
    ),
    "keep both": experiment(
        {"evaluation": {"keep": {"last": 1, "best": "exact_match"}}},
        ["expected either last or best"],
    ),
    "unknown split of a measure": experiment(
        {"evaluation": {"measures": [{"name": "flatness", "split": "validation"}]}},
        ["split of evaluation.measures.flatness 'validation'", "expected one of: test, train"],
    ),
    # resources
    "no cores": experiment({}, ["resources.cpus: "], "resources.cpus=0"),
    "memory that is not a number": experiment(
        {}, ["resources.memory_gib: "], "resources.memory_gib=.nan"
    ),
    "minutes in words": experiment(
        {"resources": {"slurm": {"minutes": "24:00:00"}}},
        ["expected a number of minutes, found '24:00:00' (24 hours are 1440)"],
    ),
    "no configuration of accelerate": experiment(
        {"resources": {"accelerate": "DIR/fsdp.yaml"}},
        ["configuration file of accelerate not found: DIR/fsdp.yaml"],
    ),
    # overrides
    "override without value": experiment({}, ["'seeds': expected key=value"], "seeds"),
    "override without key": experiment({}, ["'=3': expected key=value"], "=3"),
    "override into a number": experiment(
        {}, ["expected 'seeds' to be a block of fields, found 2"], "seeds.x=1"
    ),
    "override that is no YAML": experiment({}, ["the value is not YAML"], "seeds=[1"),
    "override that is an object of Python": experiment(
        {}, ["the value is not YAML"], "name=!!python/object/apply:os.getcwd []"
    ),
    "override of half a character": experiment(
        {}, ["half of a surrogate pair is not a character"], 'question="\\ud800"'
    ),
    # grid
    "grid and arms": experiment(
        {"grid": {"objective": ["ntp", "ctp"]}}, ["has both arms and grid"]
    ),
    "grid of one level": experiment(
        {**GRID, "grid": {"objective": ["ntp"]}}, ["grid.objective: expected at least two values"]
    ),
    "grid that is a list": experiment({**GRID, "grid": [1, 2]}, ["grid: expected a map"]),
    "grid of text": experiment(
        {**GRID, "grid": {"objective": "ntp"}}, ["grid.objective: expected a list of values"]
    ),
    "grid of levels alike": experiment(
        {**GRID, "grid": {"training.weight_decay": [0.1, "0.1"], "objective": ["ntp", "ctp"]}},
        ["two values would have the same name"],
    ),
    "grid without end": experiment(
        {
            **GRID,
            "grid": {f"model.config.x{k}": list(range(100)) for k in range(6)},
        },
        ["grid: 1000000000000 combinations. Expected at most 10000"],
    ),
    "grid through a value": experiment(
        {**GRID, "grid": {"objective": [1, 2], "objective.name": ["ntp", "ctp"]}},
        ["expected 'objective' to be a block of fields, found"],
    ),
    "grid of an empty field": experiment(
        {**GRID, "grid": {"": ["ntp", "ctp"]}}, ["grid.: unknown field"]
    ),
    # map
    "map and stages": staged(["has both map and stages"], map={"task.train_size": [1, 2]}),
    "map that is text": experiment({"map": "task"}, ["map: expected a map from fields"]),
    "map of seeds": experiment(
        {"map": {"seeds": [1, 2]}},
        ["map.seeds: cells of a map differ in fields that the arms share"],
    ),
    "map of what arms set": experiment(
        {**arms(training={"steps": 9}), "map": {"training.steps": [1, 2]}},
        ["the arm a has its own training.steps"],
    ),
    "map without a name": experiment({**MAP, "name": None}, ["name: missing"]),
    "map with a bad cell": experiment(
        {"map": {"task.train_size": [0, 60]}}, ["cell train_size-0", "task.train_size"]
    ),
    "map through a value": experiment(
        {"map": {"name.x": [1, 2]}},
        ["map.name.x: cells of a map differ in fields that the arms share"],
    ),
    "map with names that are too long": experiment(
        {"name": "a" * 90, **MAP}, ["104 characters. Expected at most 100", "shorter name"]
    ),
    "map with a cell that has no data": experiment(
        {"map": {"task.train_size": [60, 99]}}, ["give only 100 different pairs"]
    ),
    "override of what a map gives": experiment(
        MAP, ["the map of", "sets task.train_size in every cell"], "task.train_size=50"
    ),
    # stages
    "one stage": staged(["stages: expected at least two"], stages={"first": {"task": ADDITION}}),
    "stages in a list": staged(["stages: expected at least two"], stages=[1, 2]),
    "stage without content": staged(
        ["stages.second: expected a block of fields, found None"],
        stages={"first": {"task": ADDITION}, "second": None},
    ),
    "model in a stage": staged(
        ["stages.first.model: all stages share model; move it outside"],
        stages={"first": {"model": {}}, "second": {}},
    ),
    "task beside stages": staged(["task: not a field beside stages"], task=ADDITION),
    "stages without arms": staged(["expected either arms or a grid"], arms=None),
    "stage that is not there": staged(
        ["arms.a: expected the fields of the arm in each stage (first, second)"],
        arms={"a": {"third": {}}},
    ),
    "error in the second stage": staged(
        ["stage second: 1 error", "training.steps: "], "stages.second.training.steps=-1"
    ),
    "stage that leaves the directory": staged(
        ["stages: expected names of letters", "found '../first'"],
        stages={"../first": STAGED["stages"]["first"], "second": STAGED["stages"]["second"]},
        arms={"a": {"../first": {"objective": "ntp"}, "second": {"objective": "ntp"}}},
    ),
    "stage without a task": staged(
        ["stage second: 1 error", "task: expected a block of fields"],
        stages={"first": STAGED["stages"]["first"], "second": {"training": TRAINING}},
    ),
    "objective of a stage that is text": staged(
        ["arms.a.first: expected a block of fields"],
        arms={"a": {"first": "ntp", "second": {"objective": "ntp"}}},
    ),
    "grid of stages without a stage": staged(
        ["grid.objective: expected STAGE.objective"], arms=None, grid={"objective": ["ntp", "ctp"]}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_experiment(name, ntpctp, tmp_path, monkeypatch):
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
