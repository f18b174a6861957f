"""SECURITY.md names the tests that hold what it says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_test_that_the_page_names_is_there():
    page = (ROOT / "SECURITY.md").read_text("utf-8")
    files = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"^def (test_\w+)\(", "\n".join(files.values()), re.MULTILINE))
    named = re.findall(r"`(?:tests/[\w/]+/)?(test_\w+(?:\.py)?)`", page)
    assert len(named) > 15
    assert [name for name in named if name not in functions | set(files)] == []
