"""docs/extending.md: its files and table entries in a copy of the package, and its tests run."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.docs.documents import ROOT, blocks_of

PAGE = ROOT / "docs/extending.md"
FILES = {block.file: block.text for block in blocks_of(PAGE) if block.file}
DIFFS = [block.text for block in blocks_of(PAGE) if block.language == "diff"]
MOST_LINES = 60


def apply(diff, root):
    """Put each added line behind the line that stands before it in ``diff``."""
    name, *lines = diff.splitlines()
    path = root / name.removeprefix("--- ")
    text = path.read_text()
    before = None
    for line in lines:
        if line.startswith("+"):
            assert text.count(f"{before}\n") == 1, f"{path.name}: {before}"
            text = text.replace(f"{before}\n", f"{before}\n{line[1:]}\n")
        before = line[1:]
    path.write_text(text)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of package and tests with what the page adds."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "ntpctp", root / "ntpctp", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests/measures").mkdir(parents=True)
    for name in (
        "setup.cfg",
        "tests/conftest.py",
        "tests/drivers.py",
        "tests/loaded.py",
        "tests/__init__.py",
        "tests/measures/robustness_context.py",
    ):
        shutil.copy(ROOT / name, root / name)
    for diff in DIFFS:
        apply(diff, root)
    for name, text in FILES.items():
        path = root / name
        assert not path.exists(), f"{name} exists: the page shows how to add it"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(root, *command):
    """Run a module of Python on the copy."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True
    )


def test_the_page_adds_one_of_each_kind():
    tables = {"data/tasks": "single", "objectives": "__init__", "measures": "__init__"}
    for kind, table in tables.items():
        (name,) = [name for name in FILES if name.startswith(f"ntpctp/{kind}/")]
        assert len(FILES[name].splitlines()) < MOST_LINES
        assert [diff for diff in DIFFS if diff.startswith(f"--- ntpctp/{kind}/{table}.py\n")]
    assert len([name for name in FILES if name.startswith("tests/")]) == len(tables)


@pytest.mark.slow
def test_the_tests_of_the_page_pass(extended):
    tests = [name for name in FILES if name.startswith("tests/")]
    done = run(extended, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "5 passed" in done.stdout


@pytest.mark.slow
def test_all_three_work_in_one_experiment(extended):
    content = yaml.safe_load(FILES["new.yaml"])
    content["training"] |= {"steps": 2, "batch_size": 4, "learning_rate": 1e-3}
    content["task"] |= {"train_size": 20, "test_size": 6}
    content |= {"seeds": 1, "grid": {"objective.keep": [0, 0.5]}}
    content["evaluation"]["every"] = 2
    (extended / "tiny.yaml").write_text(yaml.safe_dump(content))
    done = run(extended, "ntpctp", "run", "tiny.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "test weakest token" in done.stdout
    page = (extended / "runs/new/report.html").read_text()
    assert "The largest loss of a token of the answer" in page
