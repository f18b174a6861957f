"""The house: packages in one order, no circle, and entry points that stand alone."""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "ntpctp"

# A package imports from those above it.
HOUSE = [
    "_core",
    "curvature",
    "statistics",
    "data",
    "objectives",
    "models",
    "training",
    "measures",
    "config",
    "runner",
    "analysis",
    "report",
    "cli",
]
# What knows nothing of the others on its floor.
APART = {
    "curvature": {"_core"},
    "statistics": {"_core"},
    "training": {"_core", "data", "objectives", "models"},
}
# The same inside the package that has most to do.
RUNNER = [
    "events",
    "summary",
    "exclusions",
    "prepare",
    "budget",
    "plan",
    "audit",
    "evaluate",
    "loss_barrier",
    "checkpoint_paths",
    "evaluate_paths",
    "callbacks",
    "heartbeat",
    "status",
    "stores",
    "location",
    "engines",
    "run",
    "worker",
    "worker_main",
    "concurrent",
    "experiment",
    "stages",
    "train_one",
]


def modules() -> dict[str, Path]:
    """Return every module of the library by its dotted name."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    assert len(found) > 250
    return found


@cache
def imports(path: Path) -> tuple[tuple[str, bool], ...]:
    """Return the modules of the library that a file imports, and whether it does so at its top."""
    tree = ast.parse(path.read_text("utf-8"))
    known = modules()
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            inside = [f"{node.module}.{name.name}" for name in node.names]
            names = [name if name in known else node.module for name in inside]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        found += [(name, node in tree.body) for name in names if name.split(".")[0] == "ntpctp"]
    return tuple(found)


def rooms(order: list[str], prefix: str) -> Iterator[tuple[Path, str, str]]:
    """Yield file, its room and a room that it imports, for all imports between rooms."""
    for name, path in modules().items():
        if not name.startswith(f"{prefix}."):
            continue
        room = name.removeprefix(f"{prefix}.").split(".")[0]
        for imported, _ in imports(path):
            if imported.startswith(f"{prefix}."):
                other = imported.removeprefix(f"{prefix}.").split(".")[0]
                if other != room:
                    yield path, room, other


def test_nothing_lies_in_the_hall():
    assert {path.name for path in LIBRARY.glob("*.py")} == {"__init__.py", "__main__.py"}
    folders = {path.name for path in LIBRARY.iterdir() if any(path.glob("*.py"))}
    assert folders == set(HOUSE)
    assert {path.parent.name for path in LIBRARY.glob("*/__init__.py")} == set(HOUSE)


def test_packages_import_only_from_those_above():
    seen = 0
    for path, room, other in rooms(HOUSE, "ntpctp"):
        seen += 1
        if room == "__main__":
            continue
        assert other in APART.get(room, HOUSE[: HOUSE.index(room)]), f"{path} imports {other}"
    assert seen > 500


def test_modules_of_the_runner_import_only_from_those_above():
    inside = {path.stem for path in (LIBRARY / "runner").iterdir()} - {"__init__", "__pycache__"}
    assert inside == set(RUNNER)
    for path, room, other in rooms(RUNNER, "ntpctp.runner"):
        assert RUNNER.index(other) < RUNNER.index(room), f"{path} imports {other}"


def test_no_module_imports_itself_by_others():
    names = modules()
    at_top = {
        name: {imported for imported, top in imports(path) if top and imported != name}
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            pytest.fail(" -> ".join([*way[way.index(name) :], name]))
        if name in done:
            return
        for other in sorted(at_top[name]):
            # A package's __init__ may gather what its modules define; they do not ask it back.
            visit(other, [*way, name])
        done.add(name)

    for name in names:
        visit(name, [])


def test_types_are_imported_as_everything_else():
    for path in LIBRARY.rglob("*.py"):
        assert "TYPE_CHECKING" not in path.read_text("utf-8"), path


def test_curvature_and_statistics_know_nothing_of_language_models():
    for package in ("curvature", "statistics"):
        files = sorted((LIBRARY / package).rglob("*.py"))
        assert len(files) > 10
        for path in files:
            text = path.read_text("utf-8")
            for library in ("transformers", "tokenizers", "accelerate"):
                assert f"import {library}" not in text and f"from {library}" not in text, path


def test_engines_know_nothing_of_runs():
    for path in (LIBRARY / "runner" / "engines").glob("*.py"):
        for imported, _ in imports(path):
            inside = imported.startswith("ntpctp.runner.engines")
            assert inside or not imported.startswith("ntpctp.runner"), f"{path}: {imported}"


def test_entry_points_import_the_library_and_never_each_other():
    folders = ["recipes", "evaluation", "scripts"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) >= 2
    for path in files:
        text = path.read_text("utf-8")
        for folder in folders:
            assert f"from {folder}" not in text and f"import {folder}" not in text, path
    for path in LIBRARY.rglob("*.py"):
        for folder in ("recipes", "scripts"):
            assert f"import {folder}" not in path.read_text("utf-8")
    assert not list((ROOT / "recipes").glob("__init__.py"))
    assert not list((ROOT / "evaluation").glob("__init__.py"))


def test_files_are_short():
    for path in [*LIBRARY.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        count = len(path.read_text("utf-8").splitlines())
        assert count <= 400, f"{path}: {count} lines; split it"


def test_modules_of_tests_have_names_of_their_own():
    # pytest imports them by basename, so that two alike end the whole run.
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    allowed = {"conftest.py", "__init__.py"}
    assert [name for name, count in names.items() if count > 1 and name not in allowed] == []
