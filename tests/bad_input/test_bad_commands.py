"""Command lines, environments and output directories that cannot be used."""

import pytest
import yaml

from tests.bad_input.refusal import Case, check
from tests.conftest import TINY

GOOD = yaml.safe_dump(TINY, sort_keys=False)
RESOLVED = "# As resolved: with all defaults.\n" + yaml.safe_dump(
    {
        "name": "other",
        "arms": {"a": {"training": {"steps": 9}}},
        "seeds": [0],
        "evaluation": {"every": None, "measures": []},
    }
)
STAGES = yaml.safe_dump(
    {
        **{key: TINY[key] for key in ("name", "model", "seeds", "evaluation")},
        "tokenizer": "characters",
        "arms": {"a": {"first": {"objective": "ntp"}, "second": {"objective": "ntp"}}},
        "stages": {
            "first": {"task": TINY["task"], "training": TINY["training"]},
            "second": {"task": {"name": "modular", "modulus": 7}, "training": TINY["training"]},
        },
    }
)
SUITE = {"name": "small", "tasks": {"sums": TINY["task"]}, "measures": ["accuracy"]}


def command(text, messages, **more):
    """Return a case of a command beside a good experiment file, one with stages, and a suite."""
    files = {
        "tiny.yaml": GOOD,
        "stages.yaml": STAGES,
        "suite.yaml": yaml.safe_dump(SUITE),
        "file": "no directory",
        "empty": None,
        **more.pop("files", {}),
    }
    return Case(text.split(), messages, files, **more)


def suite(content, messages):
    text = content if isinstance(content, str) else yaml.safe_dump({**SUITE, **content})
    return command(
        "evaluate DIR/empty --suite DIR/suite.yaml", messages, files={"suite.yaml": text}
    )


CASES: dict[str, Case] = {
    "unknown command": command("rn DIR/tiny.yaml", ["No such command 'rn'"]),
    "unknown option": command("run DIR/tiny.yaml --wrokers 2", ["No such option: --wrokers"]),
    # run
    "run nothing": command("run", ["Missing argument"]),
    "run without workers": command("run DIR/tiny.yaml --workers 0", ["--workers"]),
    "run with many workers in words": command(
        "run DIR/tiny.yaml --workers many", ["--workers", "integer"]
    ),
    "run on the moon": command(
        "run DIR/tiny.yaml --on moon --output DIR/out",
        ["--on moon: unknown engine. Expected local; ray"],
    ),
    "run on local with more": command(
        "run DIR/tiny.yaml --on local:4 --output DIR/out",
        ["--on local:4: unknown engine. Expected local; ray"],
    ),
    "run into a store without place": command(
        "run DIR/tiny.yaml --output s3://", ["s3://: no path in the URL; expected s3://bucket/path"]
    ),
    "run into a store of nobody": command(
        "run DIR/tiny.yaml --output nobody://bucket/runs",
        ["nobody://bucket/runs: unknown protocol 'nobody'"],
    ),
    "run into a chain of stores": command(
        "run DIR/tiny.yaml --output zip://a::s3://b/c", ["expected one URL, found a chain"]
    ),
    "plan at no speed": command(
        "run DIR/tiny.yaml --plan --flops-per-second 0",
        ["--flops-per-second: expected a finite number above 0, found"],
    ),
    "plan at a negative speed": command(
        "run DIR/tiny.yaml --plan --flops-per-second -1e12",
        ["--flops-per-second: expected a finite number above 0, found"],
    ),
    "plan at a speed that is not a number": command(
        "run DIR/tiny.yaml --plan --flops-per-second nan",
        ["--flops-per-second: expected a finite number above 0, found"],
    ),
    "plan at a speed without end": command(
        "run DIR/tiny.yaml --plan --flops-per-second inf",
        ["--flops-per-second: expected a finite number above 0, found"],
    ),
    "plan for no process": command("run DIR/tiny.yaml --plan --processes 0", ["--processes"]),
    "plan of a bad experiment": command(
        "run DIR/tiny.yaml seeds=0 --plan", ["seeds: expected at least 1 seed, found 0"]
    ),
    # train
    "train no arm": command("train DIR/tiny.yaml", ["unknown arm ''", "expected one of: ctp, ntp"]),
    "train an unknown arm": command(
        "train DIR/tiny.yaml --arm npt", ["unknown arm 'npt'; did you mean 'ntp'?"]
    ),
    "train an unknown seed": command(
        "train DIR/tiny.yaml --arm ntp --seed 9",
        ["--seed 9: not a seed of the experiment. Expected one of [0, 1]"],
    ),
    "train a negative seed": command("train DIR/tiny.yaml --arm ntp --seed -1", ["--seed"]),
    "train a stage of none": command(
        "train DIR/tiny.yaml --arm ntp --stage first", ["has no stages. Omit --stage"]
    ),
    "train no stage": command(
        "train DIR/stages.yaml --arm a",
        ["the experiment has stages. Choose one with --stage: first, second"],
    ),
    "train an unknown stage": command(
        "train DIR/stages.yaml --arm a --stage frist",
        ["unknown stage 'frist'; did you mean 'first'?"],
    ),
    "train the second stage first": command(
        "train DIR/stages.yaml --arm a --stage second --output DIR/out", ["train that seed first"]
    ),
    # list and audit
    "list nothing": command("list DIR/nowhere.yaml", ["expected a YAML file, found no such file"]),
    "list an unknown stage": command(
        "list DIR/stages.yaml --stage frist", ["unknown stage 'frist'; did you mean 'first'?"]
    ),
    "list a stage of none": command("list DIR/tiny.yaml --stage first", ["has no stages"]),
    "audit a directory": command("audit DIR/empty", ["expected a YAML file, found a directory"]),
    "audit fewer than no examples": command("audit DIR/tiny.yaml --examples -1", ["--examples"]),
    "audit a bad override": command("audit DIR/tiny.yaml seeds", ["expected key=value"]),
    # status
    "status of nothing": command(
        "status DIR/nowhere", ["DIR/nowhere: expected the directory of an experiment"]
    ),
    "status of a file": command(
        "status DIR/file", ["DIR/file: expected the directory of an experiment"]
    ),
    "status of an empty directory": command(
        "status DIR/empty", ["DIR/empty: expected the directory of an experiment"]
    ),
    "status of an experiment that is a list": command(
        "status DIR/out",
        ["DIR/out/experiment.yaml: not an experiment as `ntpctp run` writes it"],
        files={"out/experiment.yaml": "- 1\n"},
    ),
    "status of an experiment as a user writes it": command(
        "status DIR/out",
        ["DIR/out/experiment.yaml: not an experiment as `ntpctp run` writes it"],
        files={"out/experiment.yaml": GOOD},
    ),
    "status of an experiment that is binary": command(
        "status DIR/out",
        ["DIR/out/experiment.yaml: not an experiment as `ntpctp run` writes it"],
        files={"out/experiment.yaml": b"\xff\xfe\x00"},
    ),
    "status of an experiment without end": command(
        "status DIR/out",
        ["DIR/out/experiment.yaml: not an experiment as `ntpctp run` writes it"],
        files={"out/experiment.yaml": "a: " + "[" * 5000},
    ),
    "status of an experiment of wrong types": command(
        "status DIR/out",
        ["DIR/out/experiment.yaml: not an experiment as `ntpctp run` writes it"],
        files={
            "out/experiment.yaml": "name: a\narms: {a: {training: {steps: x}}}\nseeds: [a]\n"
            "evaluation: {every: never, measures: [{name: 1, at: 2}]}\n"
        },
    ),
    # evaluate
    "evaluate nothing": command("evaluate", ["Missing argument"]),
    "evaluate what is not there": command(
        "evaluate ./nowhere --suite DIR/suite.yaml", ["./nowhere: no such file or directory"]
    ),
    "evaluate an empty directory": command(
        "evaluate DIR/empty --suite DIR/suite.yaml",
        ["DIR/empty: neither an experiment's directory nor inside one", "config.json"],
    ),
    "evaluate a file": command(
        "evaluate DIR/file --suite DIR/suite.yaml", ["DIR/file: neither an experiment's directory"]
    ),
    "evaluate an unknown measure": command(
        "evaluate DIR/empty --measures acuracy",
        ["unknown measure 'acuracy'; did you mean 'accuracy'?"],
    ),
    "evaluate in an unknown format": command(
        "evaluate DIR/empty --suite DIR/suite.yaml --format helm", ["helm", "lm-eval"]
    ),
    "evaluate by a suite that is missing": command(
        "evaluate DIR/empty --suite DIR/nowhere.yaml", ["expected a YAML file, found no such file"]
    ),
    "suite without measures": suite({"measures": []}, ["measures: expected at least 1 entry"]),
    "suite with an unknown task": suite({"tasks": {"a": "adition"}}, ["unknown name 'adition'"]),
    "suite with an unknown field": suite({"taks": {}}, ["taks: unknown field"]),
    "suite that leaves the directory": suite(
        {"tasks": {"../../x": "addition"}}, ["expected a name of letters"]
    ),
    "suite with a name that leaves": suite({"name": "../x"}, ["name: expected a name of letters"]),
    "suite that is an experiment": suite(GOOD, ["errors", "arms: unknown field"]),
    "suite without tasks of its own": suite(
        {"own_task": False, "tasks": {}}, ["own_task: false needs tasks"]
    ),
    # compare, report, calibrate
    "compare nothing": command("compare DIR/nowhere", ["DIR/nowhere: not an experiment's"]),
    "compare a file": command("compare DIR/file", ["DIR/file: not an experiment's directory"]),
    "compare an empty directory": command("compare DIR/empty", ["DIR/empty", "experiment"]),
    "compare in an unknown format": command("compare DIR/empty --format xml", ["'xml' is not one"]),
    "compare two that are none": command("compare DIR/empty DIR/file", ["DIR/empty"]),
    "compare one into a file": command(
        "compare DIR/out --output DIR/joined.json",
        ["--output: expected several directories; the comparison of one experiment is written"],
        files={"out/experiment.yaml": GOOD},
    ),
    "compare an experiment that is a directory": command(
        "compare DIR/out", ["DIR/out"], files={"out": None, "out/experiment.yaml": None}
    ),
    "compare a damaged experiment": command(
        "compare DIR/out",
        ["DIR/out/experiment.yaml", "invalid YAML"],
        files={"out/experiment.yaml": "a: [1\n"},
    ),
    "report on nothing": command("report DIR/nowhere", ["DIR/nowhere: not an experiment's"]),
    "report on an empty directory": command("report DIR/empty", ["DIR/empty: expected the direct"]),
    "format without figures": command(
        "report DIR/empty --figure-format pdf",
        ["--figure-format: expected --figures with it"],
    ),
    "figures into a file": command(
        "report DIR/empty --figures DIR/file", ["--figures: expected a directory", "is a file"]
    ),
    "figures of nothing": command(
        "report DIR/empty --figures DIR/figures",
        ["--figures: expected the directory of one experiment or map, found DIR/empty"],
    ),
    "figures in an unknown format": command(
        "report DIR/empty --figures DIR/figures --figure-format gif", ["'gif' is not one of"]
    ),
    "report on a map that is damaged": command(
        "report DIR/out", ["DIR/out/cells.json", "expected JSON"], files={"out/cells.json": "{"}
    ),
    "report on a map that is a list": command(
        "report DIR/out",
        ["DIR/out/cells.json: expected a JSON object, found list; `ntpctp run` on the map"],
        files={"out/cells.json": "[1]"},
    ),
    "calibrate nothing": command("calibrate DIR/nowhere", ["DIR/nowhere: not an experiment's"]),
    "calibrate by no seed": command("calibrate DIR/empty --train 0", ["--train"]),
    "calibrate before anything was run": command(
        "calibrate DIR/out", ["DIR/out", "seeds"], files={"out/experiment.yaml": GOOD}
    ),
    # stores
    "compare a store without place": command(
        "compare memory://", ["memory://: no path in the URL"]
    ),
    "status of a store of nobody": command(
        "status nobody://bucket/runs", ["unknown protocol 'nobody'"]
    ),
    # tasks and measures
    "unknown task": command("tasks adition", ["unknown task 'adition'; did you mean 'addition'?"]),
    "unknown option of a task": command(
        "tasks addition digit=2 --show 1",
        ["addition: digit: unknown field; did you mean 'digits'?"],
    ),
    "option of a task of the wrong type": command(
        "tasks addition digits=many --show 1", ["digits: expected a whole number, found 'many'"]
    ),
    "option of a task that is no option": command(
        "tasks addition digits --show 1", ["'digits': expected key=value"]
    ),
    "task that needs options": command(
        "tasks jsonl --show 1", ["jsonl: path: required field is missing"]
    ),
    "examples of no task": command("tasks --show 2", ["--show needs the name of a task"]),
    "fewer than no examples": command("tasks addition --show -1", ["--show"]),
    "unknown split of a task": command(
        "tasks addition --split validation", ["unknown split of addition 'validation'"]
    ),
    "export of no task": command("tasks --export DIR/out", ["--export needs the name of a task"]),
    "export of an unknown split": command(
        "tasks addition --export DIR/out --split validation", ["validation"]
    ),
    "export into a file": command("tasks addition --export DIR/file", ["DIR/file"], code=1),
    "export under a name that leaves": command(
        "tasks addition --export DIR/out --as ../x", ["--as ../x: expected a name of letters"]
    ),
    "export with a tokenizer that is missing": command(
        "tasks addition --export DIR/out --tokenizer DIR/a/b/nowhere",
        ["tokenizer: no directory DIR/a/b/nowhere"],
    ),
    "export of no item": command("tasks addition --export DIR/out --max-items 0", ["--max-items"]),
    "unknown measure": command(
        "measures acuracy", ["unknown measure 'acuracy'; did you mean 'acc"]
    ),
    # output directories and the environment
    "output that is a file": command(
        "run DIR/tiny.yaml --output DIR/file",
        ["DIR/file", "choose an --output that can be written"],
        code=1,
    ),
    "output below a file": command(
        "run DIR/tiny.yaml --output DIR/file/out",
        ["DIR/file", "choose an --output that can be written"],
        code=1,
    ),
    "output with a directory for its experiment": command(
        "run DIR/tiny.yaml --output DIR/out",
        ["DIR/out/experiment.yaml"],
        files={"out": None, "out/experiment.yaml": None},
        code=1,
    ),
    "output of another experiment": command(
        "run DIR/tiny.yaml --output DIR/out",
        ["DIR/out: the directory already holds experiment 'other'", "Choose another --output"],
        files={"out/experiment.yaml": RESOLVED},
    ),
    "output that holds the experiment file itself": command(
        "run DIR/out/experiment.yaml --output DIR/out",
        ["DIR/out/experiment.yaml: this file was not written by `ntpctp run`", "rename the file"],
        files={"out/experiment.yaml": GOOD},
    ),
    "output whose name is too long": command(
        "run DIR/tiny.yaml --output DIR/" + "a" * 300, ["File name too long"], code=1
    ),
    "scratch that is a file": command(
        "run DIR/tiny.yaml --output memory://bucket/runs",
        ["DIR/file"],
        environment={"NTPCTP_SCRATCH": "DIR/file"},
        code=1,
    ),
    "scratch below a file": command(
        "run DIR/tiny.yaml --output memory://bucket/runs",
        ["DIR/file", "Not a directory"],
        environment={"NTPCTP_SCRATCH": "DIR/file/scratch"},
        code=1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_command(name, ntpctp, tmp_path, monkeypatch):
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
