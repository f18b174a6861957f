"""constraints.txt pins every package of the tests, and continuous integration installs by it."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NOT_FROM_AN_INDEX = {"ntpctp"}


def pins() -> dict[str, str]:
    """Name -> version of every line of constraints.txt."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")  # nothing but exact pins
            found[canonicalize_name(name)] = version
    return found


def needed() -> dict[str, str]:
    """Name -> version of every installed package that ntpctp[test] needs, directly or not."""
    waiting, seen, found = [("ntpctp", frozenset({"test"}))], set(), {}
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = distribution.version
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_every_package_that_the_tests_need_is_pinned():
    found = needed()
    assert len(found) > 60 and {"torch", "pytest", "huggingface-hub"} <= set(found)
    unpinned = set(found) - set(pins()) - NOT_FROM_AN_INDEX
    assert unpinned == set(), "pin them in constraints.txt"


def test_installed_versions_are_the_pinned_ones():
    pinned, found = pins(), needed()
    # A build of torch says for which hardware it is: 2.13.0+cpu.
    differ = {
        name: (version, pinned[name])
        for name, version in found.items()
        if name in pinned and version.split("+")[0] != pinned[name]
    }
    assert differ == {}, "installed, pinned"


def test_constraints_are_exact_and_name_no_package_twice():
    lines = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"
    ]
    assert len(lines) == len(pins())
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)


def test_continuous_integration_installs_by_the_constraints():
    makefile = (ROOT / "Makefile").read_text()
    installs = [
        line for line in makefile.splitlines() if "bin/pip install" in line or "(BIN)/pip" in line
    ]
    assert installs and all(
        "-c constraints.txt" in line or "pip-audit==" in line for line in installs
    )
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "pip install" not in (ROOT / ".ci/run").read_text()
