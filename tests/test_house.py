"""The house: a module imports only from those above it, and entry points stand alone."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]

# From top to bottom; a package counts as one.
HOUSE = [
    "errors",
    "options",
    "resources",
    "randomness",
    "secrecy",
    "storage",
    "sealed",
    "layout",
    "schedule",
    "asked",
    "signs",
    "states",
    "stopping",
    "yaml_file",
    "libraries",
    "accelerating",
    "provenance",
    "pretrained",
    "tasks",
    "rows",
    "chats",
    "tokens",
    "arrow",
    "encoded",
    "lm_eval_items",
    "lm_eval_export",
    "objectives",
    "collator",
    "supervision",
    "loss",
    "initialisation",
    "models",
    "reading",
    "references",
    "adapters",
    "sharding",
    "checkpoints",
    "stores",
    "training",
    "trackers",
    "curvature",
    "measures",
    "statistics",
    "experiment",
    "flops",
    "preparation",
    "suites",
    "budgets",
    "plan",
    "audit",
    "evaluation",
    "foreign",
    "following",
    "places",
    "runs",
    "engines",
    "stages",
    "maps",
    "learning",
    "scores",
    "tidy",
    "item_rows",
    "responses",
    "measured",
    "trajectories",
    "equal_loss",
    "comparison",
    "paths",
    "jobs",
    "execution",
    "together",
    "pipeline",
    "calibrating",
    "report",
    "joining",
    "launch",
    "launched",
    "targets",
    "measuring",
    "lm_eval_results",
    "model_card",
    "outputs",
    "terminal",
    "catalogue",
    "cli",
]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "ntpctp":
                rooms |= {parts[1]} if len(parts) > 1 else {name.name for name in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {n.name.split(".")[1] for n in node.names if n.name.startswith("ntpctp.")}
    return rooms


def test_modules_import_only_from_those_above():
    files = sorted((ROOT / "ntpctp").rglob("*.py"))
    assert len(files) > 30
    rooms = {path.relative_to(ROOT / "ntpctp").parts[0].removesuffix(".py") for path in files}
    assert rooms - {"__init__", "__main__"} == set(HOUSE)
    for path in files:
        room = path.relative_to(ROOT / "ntpctp").parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        above = set(HOUSE[: HOUSE.index(room) + 1])
        assert imported_rooms(path) <= above, f"{path} imports from below"


def test_curvature_knows_nothing_of_language_models():
    for path in (ROOT / "ntpctp" / "curvature").glob("*.py"):
        allowed = {"errors", "options", "randomness", "curvature"}
        assert imported_rooms(path) <= allowed, path
        assert "transformers" not in path.read_text("utf-8").split("import ", 1)[-1][:2000], path


def test_entry_points_import_the_library_and_never_each_other():
    folders = ["recipes", "evaluation", "scripts"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(files) >= 2
    for path in files:
        text = path.read_text("utf-8")
        for folder in folders:
            assert f"from {folder}" not in text and f"import {folder}" not in text, path
    for path in (ROOT / "ntpctp").rglob("*.py"):
        for folder in ("recipes", "scripts"):
            assert f"import {folder}" not in path.read_text("utf-8")
    assert not list((ROOT / "recipes").glob("__init__.py"))
    assert not list((ROOT / "evaluation").glob("__init__.py"))


def test_modules_of_tests_have_names_of_their_own():
    # pytest imports them by basename, so that two alike end the whole run.
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    allowed = {"conftest.py", "__init__.py"}
    assert [name for name, count in names.items() if count > 1 and name not in allowed] == []
