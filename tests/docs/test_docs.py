"""README and docs: every block of code is executed, or checked as far as it can be.

Python runs, page by page, and prints what the page says it prints. YAML is validated as the file,
or the part of one, that it is. Commands must parse, with the options and overrides that they name,
and the files, targets and extras that they mention must be there. Data are read by the reader.
"""

import contextlib
import io
import json
import re
import shlex
from configparser import ConfigParser
from functools import cache

import pytest
import typer
import yaml

from ntpctp import cli
from ntpctp._core.errors import InputError
from ntpctp._core.yaml_loader import parse_value, read_yaml
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.scores import SCORES
from ntpctp.config import experiment_of, load_experiment
from ntpctp.config.stages import load_stages
from ntpctp.config.suite import load_suite
from ntpctp.config.sweep import load_sweep
from ntpctp.data.tasks import TASKS, JsonLines
from ntpctp.measures import MEASURES
from ntpctp.models import checkpoints
from ntpctp.report.terminal.catalogue import task_of
from ntpctp.runner.engines import Local
from ntpctp.runner.experiment import run_experiment
from tests.conftest import tiny_content
from tests.docs.documents import PAGES, ROOT, blocks_of, commands_of, inline_code_of

LANGUAGES = {"python", "yaml", "json", "jsonl", "sh", "diff", "text", ""}
FOLDERS = ("docs", "evaluation", "recipes", "scripts")
USAGE_ERROR = typer.BadParameter.__base__  # typer brings its own click and does not export it
EXPERIMENT_FIELDS = ("task", "stages")
# What stands inside a block of an experiment file, not at its top.
INNER = {"measures": "evaluation", "every": "evaluation", "keep": "evaluation"}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A checkpoint of addition, to stand where a page loads one."""
    directory = tmp_path_factory.mktemp("of-a-page")
    measures = ["accuracy"]
    content = tiny_content(seeds=1, evaluation={"measures": measures})
    content["training"] = {**content["training"], "steps": 2}
    content["arms"] = {"ctp": {"objective": "ctp"}}
    experiment = experiment_of(content, "tiny")
    failures = run_experiment(experiment, directory, engine=Local(1), on_event=lambda event: None)
    assert not failures
    compare_experiment(experiment, directory)
    stage = directory / "ctp/seed-0/train"
    checkpoints.verify(stage / "step-000002")
    return stage / "step-000002"


@pytest.fixture
def playground(tmp_path, monkeypatch):
    """A working directory that looks like the repository's root."""
    for folder in FOLDERS:
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pages
def test_blocks_say_what_they_are(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, block.where
        assert not block.tested_by or (ROOT / block.tested_by).is_file(), block.where


def test_the_pages_have_code():
    counts = dict.fromkeys(LANGUAGES, 0)
    for page in PAGES:
        for block in blocks_of(page):
            counts[block.language] += 1
    assert counts["python"] >= 10 and counts["yaml"] >= 15 and counts["sh"] >= 10, counts


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.language == "python" and not b.file for b in blocks_of(page))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_runs_and_prints_what_the_page_says(page, playground, checkpoint):
    there = playground / "runs/quickstart/ctp/seed-0/train"
    there.mkdir(parents=True)
    (there / "step-001600").symlink_to(checkpoint)
    (playground / "runs/quickstart" / SCORES).symlink_to(checkpoint.parents[3] / SCORES)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks_of(page):
        if block.is_output:
            assert printed == block.text, block.where
        if block.language != "python" or block.not_run:
            continue
        if block.file:
            continue
        output = io.StringIO()
        # Padded, so that a traceback has the lines of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
        with contextlib.redirect_stdout(output):
            exec(code, names)
        printed = output.getvalue()


@pages
def test_yaml_is_valid(page, playground):
    for block in blocks_of(page):
        if block.language != "yaml" or block.tested_by:
            continue
        (playground / "block.yaml").write_text(block.text)
        content, _ = read_yaml(playground / "block.yaml")
        try:
            check_yaml(playground / "block.yaml", content)
        except InputError as error:
            pytest.fail(f"{block.where}: {error}")


def check_yaml(path, content):
    if "tasks" in content:
        load_suite(path)
    elif "name" in content and any(field in content for field in EXPERIMENT_FIELDS):
        load_any(path)
    else:
        check_part(path, content)


def check_part(path, content):
    """Validate a part of an experiment file within the tiny experiment."""
    whole = tiny_content()
    if "grid" in content:
        del whole["arms"]
    if "stages" in content:
        del whole["task"], whole["training"]
    for field, value in content.items():
        if field in INNER:
            whole[INNER[field]] = {**whole[INNER[field]], field: value}
        elif field == "training":
            given = {"steps"} if "budget" in value else set()
            base = {k: v for k, v in whole["training"].items() if k not in given}
            whole["training"] = {**base, **value}
        else:
            whole[field] = value
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    load_any(path)


def load_any(path, overrides=()):
    """Read a file as `ntpctp run` does."""
    if load_sweep(path, overrides) is None and load_stages(path, overrides) is None:
        load_experiment(path, overrides)


def test_a_wrong_part_is_refused(tmp_path):
    for part in (
        {"training": {"budgt": {"tokens": 5}}},
        {"objective": "noisy", "grid": {"objective.rat": [0, 0.1]}},
        {"measures": ["acuracy"]},
        {"map": {"task.train_sise": [20, 40]}},
    ):
        with pytest.raises(InputError, match=r"did you mean|unknown"):
            check_part(tmp_path / "part.yaml", part)


@pages
def test_parts_within_the_text_are_valid(page, playground):
    fields = "arms|comparison|data|evaluation|grid|measures|model|objective|seeds|task|trackers"
    for line, text in inline_code_of(page):
        if re.match(rf"({fields}|training|tokenizer): \S", text) and "..." not in text:
            try:
                check_part(playground / "part.yaml", parse_value(text))
            except InputError as error:
                pytest.fail(f"{page.name}, line {line}: {text}: {error}")


@pages
def test_data_are_read(page, playground):
    for block in blocks_of(page):
        if block.language not in ("json", "jsonl"):
            continue
        path = playground / "block.jsonl"
        rows = [json.loads(line) for line in block.text.splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task = JsonLines(path=str(path), test_path=str(path))
        assert len(task.split("train")) == len(rows), block.where


@pages
def test_commands_are_right(page, playground):
    """In blocks and within the text; of files that the page has written, overrides too."""
    for block in blocks_of(page):
        if block.file:
            (playground / block.file).parent.mkdir(parents=True, exist_ok=True)
            (playground / block.file).write_text(block.text)
        if block.language == "sh":
            for command in commands_of(block.text):
                try:
                    check_command(shlex.split(command, comments=True))
                except AssertionError as error:
                    pytest.fail(f"{block.where}: {command}: {error}")
    for line, text in inline_code_of(page):
        if text.startswith("ntpctp "):
            try:
                check_command(shlex.split(text))
            except AssertionError as error:
                pytest.fail(f"{page.name}, line {line}: {text}: {error}")


def test_wrong_commands_are_refused(playground):
    for command in (
        "ntpctp rnu recipes/quickstart.yaml",
        "ntpctp run recipes/quickstart.yaml --plann",
        "ntpctp run recipes/quickstart.yaml training.stps=3",
        "ntpctp run recipes/no_such.yaml",
        "ntpctp measures accurcy",
        "ntpctp tasks addition digts=3",
        "make quikstart",
        "pip install ntpctp[lorra]",
        "accelerate launch recipes/trian.py recipes/quickstart.yaml",
        "python scripts/bench/los.py",
        "frobnicate",
    ):
        with pytest.raises(AssertionError):
            check_command(shlex.split(command))


def check_command(words):
    if not words:
        return
    first, *rest = words
    if first == "ntpctp":
        check_ntpctp(rest)
    elif first == "make":
        targets = re.findall(r"^([\w/-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(rest) <= set(targets), f"no such target of the Makefile: {rest}"
    elif first == "pip":
        for extra in re.findall(r"\[([\w-]+)\]", " ".join(rest)):
            assert extra in extras(), f"no such extra: {extra}"
    elif first in ("accelerate", "torchrun", "python", "sbatch") or "/" in first:
        check_paths(words)
    else:
        raise AssertionError(f"a command that the tests do not know: {first}")


@cache
def extras():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


def check_paths(words):
    """What looks like a path into the repository is there."""
    for word in words:
        if word.split("/")[0] in FOLDERS:
            assert (ROOT / word).exists(), f"no such file: {word}"


def check_ntpctp(words):
    group = typer.main.get_command(cli.app)
    assert words[0] in group.commands, f"no such command: ntpctp {words[0]}"
    if len(words) == 1:  # mentioned in the text
        return
    try:
        given = group.commands[words[0]].make_context(words[0], words[1:]).params
    except USAGE_ERROR as error:
        raise AssertionError(error.format_message()) from error
    check_paths([word for word in words if not word.startswith("-")])
    path = given.get("experiment")
    if path is not None and path.is_file():
        overrides = [o for o in given["overrides"] or [] if not o.startswith(("[", "key", "..."))]
        try:
            load_any(path, overrides)
        except InputError as error:
            raise AssertionError(str(error)) from error
    tables = {"tasks": TASKS, "measures": MEASURES}
    if words[0] in tables and given["name"]:
        assert given["name"] in tables[words[0]], f"no such name: {given['name']}"
        if given.get("options"):
            try:
                task_of(given["name"], given["options"])
            except InputError as error:
                raise AssertionError(str(error)) from error
