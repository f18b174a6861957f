"""Feed damaged files and settings to all readers, and count the outcomes.

    python scripts/bench/fuzz.py --minutes 5 --seed 1

The strategies are those of ``tests/fuzz``. For every reader: inputs tried, accepted, rejected (by
an ``InputError``, as intended) and unhandled (any other exception). The first input of each kind of
unhandled exception is printed. Exits with 1 if there was any.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from ntpctp._core.errors import InputError
from tests.fuzz.mutations import changed, damaged
from tests.fuzz.readers import CONTENTS, Reader, readers, settle

console = Console()


def main() -> None:
    """Fuzz until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="another seed tries other inputs")
    parser.add_argument("--only", default="", help="only readers whose name contains this")
    parser.add_argument("--json", type=Path, help="also write the counts into this file")
    arguments = parser.parse_args()
    kinds = {name: (of_bytes(reader), reader.cost) for name, reader in readers().items()}
    kinds["settings"] = (of_settings(), 4)
    kinds = {name: kind for name, kind in kinds.items() if arguments.only in name}
    counts: dict[str, Counter[str]] = {name: Counter() for name in kinds}
    known: set[str] = set()
    end, number = time.monotonic() + 60 * arguments.minutes, arguments.seed * 10_000
    while time.monotonic() < end:
        number += 1
        for name, ((strategy, act), cost) in kinds.items():
            if time.monotonic() < end:
                batch(strategy, act, number, max(4, 100 // cost), name, counts[name], known)
    console.print(table(counts))
    if arguments.json:
        arguments.json.write_text(json.dumps(counts, indent=2) + "\n", "utf-8")
    if known:
        raise SystemExit(1)


Act = Callable[[Any], object]


def of_bytes(reader: Reader) -> tuple[st.SearchStrategy[Any], Act]:
    """Return the strategy of damaged files for a reader, and the call that reads one."""

    def act(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            reader.read(Path(directory), content)

    return damaged(reader.good), act


def of_settings() -> tuple[st.SearchStrategy[Any], Act]:
    """Return the same for the parsed content of experiment files."""
    return changed(CONTENTS), settle


def batch(
    strategy: st.SearchStrategy[Any],
    act: Act,
    number: int,
    size: int,
    name: str,
    counts: Counter[str],
    known: set[str],
) -> None:
    """Try ``size`` inputs and count outcomes; print inputs with a new kind of exception."""

    @seed(number)
    @settings(
        max_examples=size, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def count(content: Any) -> None:
        counts["tried"] += 1
        try:
            act(content)
            counts["accepted"] += 1
        except InputError:
            counts["rejected"] += 1
        except Exception as error:
            counts["unhandled"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{name}: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
            if kind not in known:
                known.add(kind)
                console.print(f"{kind}: {error}\n  {content!r}"[:3000], markup=False)

    count()


def table(counts: dict[str, Counter[str]]) -> Table:
    """Return the counts as a table, with their sums."""
    columns = ("tried", "rejected", "accepted", "unhandled")
    found = Table("reader", *columns)
    for name, of_reader in counts.items():
        found.add_row(name, *(f"{of_reader[column]:,}" for column in columns))
    whole = sum(counts.values(), Counter())
    found.add_section()
    found.add_row("all", *(f"{whole[column]:,}" for column in columns))
    return found


if __name__ == "__main__":
    main()
