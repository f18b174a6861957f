"""Start-up: errors in an experiment file, --help and --version appear before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import tiny_content
from tests.test_house import ROOT

HEAVY = [
    "accelerate",
    "datasets",
    "pandas",
    "pyarrow",
    "ray",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
]

SCRIPT = """
import contextlib, io, json, resource, sys
from ntpctp import cli

outcomes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["ntpctp", *arguments]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            cli.main()
    except SystemExit as stop:
        outcomes.append((stop.code or 0, printed.getvalue()))
loaded = sorted(set(json.loads(INPUT)) & sys.modules.keys())
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([outcomes, loaded, used.ru_utime + used.ru_stime]))
"""


def in_one_process(
    commands: list[list[str]],
) -> tuple[list[tuple[int, str]], list[str], float, str]:
    """Start commands one after the other in a fresh process.

    Returns:
        Exit code and stdout of each, the heavy libraries that were imported, CPU seconds, stderr.
    """
    script = SCRIPT.replace("INPUT", repr(json.dumps(HEAVY)))
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=True,
    )
    outcomes, loaded, seconds = json.loads(done.stdout)
    return [tuple(outcome) for outcome in outcomes], loaded, seconds, done.stderr


STAGES = {
    **{key: value for key, value in tiny_content().items() if key not in ("task", "training")},
    "arms": {"a": {"first": {"objective": "ntp"}, "second": {"objective": "ntp"}}},
    "stages": {
        "first": {"task": "addition", "training": {"steps": 4, "batch_size": 8}},
        "second": {"task": "modular", "training": {"steps": -1, "batch_size": 8}},
    },
}
# Command, experiment file, and what the error says.
REFUSED = {
    "unknown field": ("run FILE", tiny_content(trainig={}), "did you mean 'training'?"),
    "wrong type": ("run FILE", tiny_content(seeds="many"), "seeds: expected a list"),
    "bad override": ("run FILE seeds", tiny_content(), "expected key=value"),
    "override": ("run FILE training.steps=x", tiny_content(), "expected a whole number, found 'x'"),
    "bad YAML": ("run FILE", "a: [1\n", "invalid YAML"),
    "missing file": (
        "run FILE.nowhere",
        tiny_content(),
        "expected a YAML file, found no such file",
    ),
    "unknown task": ("run FILE", tiny_content(task="adition"), "unknown name 'adition'"),
    "unknown objective": (
        "run FILE",
        tiny_content(arms={"a": {"objective": "npt"}}),
        "unknown name 'npt'",
    ),
    "unknown measure": (
        "run FILE",
        tiny_content(evaluation={"measures": ["acuracy"]}),
        "unknown name 'acuracy'",
    ),
    "unknown family": ("run FILE model.family=gpt9", tiny_content(), "unknown family 'gpt9'"),
    "grid": (
        "run FILE",
        tiny_content(arms=None, grid={"objective": ["ntp"]}),
        "grid.objective: expected at least two",
    ),
    "map": ("run FILE", tiny_content(map={"seeds": [1, 2]}), "map.seeds: cells of a map differ"),
    "cell": ("run FILE", tiny_content(map={"model.width": [8, "x"]}), "cell width-x: "),
    "stages": ("run FILE", {**STAGES, "stages": 3}, "stages: expected at least two"),
    "second stage": ("run FILE", STAGES, "stage second: "),
    "plan": ("run FILE --plan", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "train": ("train FILE --arm ntp", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "list": ("list FILE", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "audit": ("audit FILE", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "suite": ("evaluate . --suite FILE", {"name": "a", "measures": ["x"]}, "unknown name 'x'"),
    "compare": ("compare DIR", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "report": ("report DIR", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "calibrate": ("calibrate DIR", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "evaluate": ("evaluate DIR", tiny_content(seeds=0), "seeds: expected at least 1 seed"),
    "task": ("tasks adition", "", "did you mean 'addition'?"),
    "option of a task": ("tasks addition digit=1", "", "did you mean 'digits'?"),
    "measure": ("measures acuracy", "", "did you mean 'accuracy'?"),
}


def refused_command(name: str, directory: Path) -> list[str]:
    """Write the experiment file of a case, and return the arguments that read it."""
    command, content, _ = REFUSED[name]
    path = directory / name / "experiment.yaml"
    path.parent.mkdir()
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    path.write_text(text)
    replaced = command.replace("FILE", "{file}").replace("DIR", "{directory}")
    return [part.format(file=path, directory=path.parent) for part in replaced.split()]


def test_errors_in_experiment_files_appear_before_torch_is_imported(tmp_path):
    commands = [refused_command(name, tmp_path) for name in REFUSED]
    outcomes, loaded, seconds, said = in_one_process(commands)
    assert len(outcomes) == len(REFUSED) >= 12
    assert [code for code, _ in outcomes] == [2] * len(REFUSED), said
    for name, (_, _, message) in REFUSED.items():
        assert message in said, name
    assert loaded == []
    assert seconds < 6, f"{len(REFUSED)} refusals took {seconds:.1f} CPU seconds"


def test_help_version_and_lists_import_no_torch(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_content(), sort_keys=False))
    commands = [["--help"], ["run", "--help"], ["--version"], ["list", str(path)]]
    commands += [["tasks"], ["measures", "accuracy"], ["tasks", "addition", "--show", "2"]]
    outcomes, loaded, seconds, _ = in_one_process(commands)
    assert [code for code, _ in outcomes] == [0] * len(commands)
    assert "calibrate" in outcomes[0][1] and "--retry-failed" in outcomes[1][1]
    assert outcomes[2][1].startswith("ntpctp 0.")
    assert outcomes[3][1].splitlines()[0] == "--arm ntp --seed 0"
    assert loaded == []
    assert seconds < 4


@pytest.mark.parametrize("statement", ["import ntpctp", "import ntpctp; ntpctp.__version__"])
def test_importing_the_package_imports_little(statement):
    script = (
        f"import sys; before = set(sys.modules); {statement}; print(*sys.modules.keys() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "ntpctp" in loaded and not loaded & {*HEAVY, "numpy", "pydantic", "typer", "rich"}


def test_the_package_names_what_it_lacks():
    import ntpctp

    with pytest.raises(AttributeError, match="module 'ntpctp' has no attribute 'nothing'"):
        ntpctp.nothing  # noqa: B018
