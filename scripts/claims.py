"""Store the results of the experiments on the papers' claims, and update docs/claims.md.

python scripts/claims.py keep 1-addition 7-initialisation   # runs/claims-NAME -> docs/claims/NAME
python scripts/claims.py tables                             # docs/claims.md from stored results

Stored of an experiment: its resolved file, versions, audit, all scores (``scores.parquet``), the
comparison, curvature during training (``equal-loss.json``) and a few figures; no weights and no
item rows. A table of the page stands between ``<!-- KIND NAME: SPLIT/SCORE, ... -->`` and
``<!-- end -->``, where KIND is ``levels`` (of every arm), ``verdicts`` (every compared pair of
arms), ``factors`` (effects of a grid), ``matched`` (at the same cost), ``equal-loss`` (curvature at
equal loss), ``cells`` or ``settings`` (of a map). The numbers are those of the report.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ntpctp._core.files import atomic_directory, atomic_file, read_json, write_json
from ntpctp.analysis.comparison import ScoreComparison, read_comparisons
from ntpctp.analysis.matched_loss import CurvatureBySeed, CurvaturePoint, read_curvature
from ntpctp.config import load_output
from ntpctp.config.sweep import CELLS, read_levels
from ntpctp.report.html import wording
from ntpctp.report.html.headline import label_of
from ntpctp.report.html.map_cells import pair_maps, read_cells
from ntpctp.report.html.map_tables import effects_table as settings_table
from ntpctp.report.html.map_tables import map_table
from ntpctp.report.html.matched_budget import matched_table
from ntpctp.report.html.matched_loss import matched_loss_pairs, matched_loss_table
from ntpctp.report.html.tables import Table, TableCell
from ntpctp.report.html.verdicts import effects_table, verdict_tables
from ntpctp.report.html.wording import MINUS

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs/claims"
PAGE = ROOT / "docs/claims.md"
FILES = ("experiment.yaml", "provenance.json", "audit.json", "comparison.json", "scores.parquet")
CURVATURE = "equal-loss.json"
"""split -> arm -> seed -> [step, loss on the answer, top eigenvalue] of every checkpoint."""
OF_MAP = ("cells.json", "map.json")
FIGURES = re.compile(
    r"overview|map-.*"
    r"|accuracy-(test|held-out|ood-hops|ood-words)-(exact-match|choice-accuracy)"
    r"|(robustness|edits)-.*accuracy.*|flatness-.*top-eigenvalue-(answer-loss|against.*)|label-noise-.*"
)
"""Names of the stored figures."""
KINDS = ("levels", "verdicts", "factors", "matched", "equal-loss", "cells", "settings")
BLOCK = re.compile(
    r"(<!-- ([\w-]+) ([\w.-]+)(?:/([\w-]+))?(?:: ([^>]*?))? -->\n)(?:(?!<!--).)*?(<!-- end -->)",
    re.S,
)
"""A table: marker, kind, experiment, stage, scores, end. It contains no other marker."""


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    keeping = commands.add_parser("keep", help="copy results from runs/ into docs/claims/")
    keeping.add_argument("names", nargs="+", help="of recipes/claims, without .yaml")
    keeping.add_argument(
        "--runs", type=Path, default=ROOT / "runs", help="directory of the finished experiments"
    )
    commands.add_parser("tables", help="rebuild the tables of docs/claims.md")
    arguments = parser.parse_args()
    if arguments.command == "tables":
        text = with_tables(PAGE.read_text("utf-8"), KEPT)
        with atomic_file(PAGE) as temporary:
            temporary.write_text(text, "utf-8")
        return
    for name in arguments.names:
        directory = arguments.runs / f"claims-{name}"
        if not directory.is_dir():
            sys.exit(
                f"error: {directory}: missing. Run `ntpctp run recipes/claims/{name}.yaml` first"
            )
        keep(directory, KEPT / name)
        print(KEPT / name)


def keep(directory: Path, to: Path) -> None:
    """Copy the results of an experiment, of its stages, or of the cells of a map.

    Args:
        directory: of finished runs.
        to: destination, replaced once everything is copied.
    """
    is_map = (directory / CELLS).is_file()
    if is_map:
        parts = [directory / cell for cell in read_levels(directory)[1]]
    elif (directory / FILES[0]).is_file():
        parts = [directory]
    else:
        parts = sorted(path.parent for path in directory.glob(f"*/{FILES[0]}"))
    wanted = [part / file for part in parts for file in FILES]
    wanted += [directory / file for file in OF_MAP] if is_map else []
    if missing := [path for path in wanted if not path.is_file()]:
        sys.exit(f"error: {missing[0]}: missing. Run the recipe with `ntpctp run` to its end")
    with atomic_directory(to) as scratch:
        for part in parts:
            keep_experiment(part, scratch / part.relative_to(directory), directory.parent)
            if not is_map:
                keep_figures(part, scratch / part.relative_to(directory))
        if is_map:
            for file in OF_MAP:
                shutil.copyfile(directory / file, scratch / file)
            keep_figures(directory, scratch)


def keep_experiment(directory: Path, to: Path, runs: Path) -> None:
    """Copy the results of one experiment, without figures."""
    to.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(directory / file, to / file)
    if curvature := read_curvature(load_output(directory), directory):
        write_json(to / CURVATURE, curvature, indent=None)
    # Later stages name the checkpoints that they start from: make these paths relative.
    settings = to / FILES[0]
    settings.write_text(settings.read_text("utf-8").replace(str(runs.resolve()), "runs"), "utf-8")


def keep_figures(directory: Path, to: Path) -> None:
    """Draw the figures of an experiment or a map, and store those that the page may show."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "ntpctp", "report", str(directory), "--figures", scratch]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for path in sorted(Path(scratch).glob("*.svg")):
            if FIGURES.fullmatch(path.stem):
                shutil.copyfile(path, to / path.name)


def with_tables(text: str, kept: Path) -> str:
    """Return the page with every table rebuilt from the stored results."""

    def table(found: re.Match[str]) -> str:
        opening, kind, name, stage, scores, end = found.groups()
        tables = tables_of(kind, kept / name / (stage or ""), scores or "")
        return opening + "\n" + "\n".join(map(markdown, tables)) + "\n" + end

    count, markers = len(BLOCK.findall(text)), text.count("<!--")
    if markers != 2 * count:
        sys.exit(
            f"error: {PAGE}: {markers} markers, but {count} complete tables (two markers each)"
        )
    return BLOCK.sub(table, text)


def tables_of(kind: str, directory: Path, scores: str) -> list[Table]:
    """Return the tables for a marker of the page.

    Args:
        kind: see the top of this file.
        directory: of one stored experiment.
        scores: ``SPLIT/SCORE, ...``, in order.
    """
    if kind not in KINDS:
        sys.exit(
            f"error: {PAGE}: unknown kind of table {kind!r}. Expected one of {', '.join(KINDS)}"
        )
    if kind in ("cells", "settings"):
        maps = pair_maps(read_cells(directory)[1])
        return [map_table(of) if kind == "cells" else settings_table(of) for of in maps]
    experiment = load_output(directory)
    if kind == "equal-loss":
        return [
            matched_loss_table(experiment, split, matched_loss_pairs(experiment, split, arms))
            for split, arms in read_kept_curvature(directory).items()
        ]
    chosen = chosen_scores(read_comparisons(directory), scores, directory)
    if kind == "levels":
        return [levels_table(list(experiment.arms), chosen)]
    if kind == "factors":
        effects = effects_table(experiment, chosen)
        if effects is None:
            sys.exit(f"error: {directory}: the experiment has no factors")
        return [effects]
    if kind == "matched":
        tables = [matched_table(score, experiment.comparison.level, 10) for score in chosen]
        return [table for table in tables if table is not None]
    tables = [table for _, _, table in verdict_tables(experiment, chosen)]
    return tables if len(tables) == 1 else [one_table(tables)]


def read_kept_curvature(directory: Path) -> dict[str, dict[str, CurvatureBySeed]]:
    """Read the curvature during training that ``keep`` stored."""
    return {
        split: {
            arm: {
                int(seed): [CurvaturePoint(*point) for point in run] for seed, run in runs.items()
            }
            for arm, runs in arms.items()
        }
        for split, arms in read_json(directory / CURVATURE).items()
    }


def levels_table(arms: Sequence[str], chosen: Sequence[ScoreComparison]) -> Table:
    """Return the mean of every arm on the chosen scores, with the standard deviation over seeds."""
    caption = "At the last step: mean and standard deviation over seeds"
    table = Table(caption, ("arm", *map(label_of, chosen)))
    for arm in arms:
        cells = []
        for score in chosen:
            spread = score.arms.get(arm)
            if spread is None:
                cells.append(TableCell(wording.NO_VALUE))
                continue
            sd = spread.standard_deviation
            note = "" if sd is None else f"sd {wording.width(sd, score.unit)}"
            cells.append(TableCell(wording.value(spread.mean, score.unit), note))
        table.add(arm, *cells)
    return table


def one_table(tables: Sequence[Table]) -> Table:
    """Return the verdicts of several pairs of arms in one table, one row per pair and score."""
    first = tables[0]
    columns = ("A", "B", first.columns[0], "A's", "B's", f"A {MINUS} B", *first.columns[4:])
    caption = "At the last step: mean over seeds, difference with its interval"
    joined = Table(caption, columns, text_columns=frozenset({0, 1, 2, 6, 7}))
    for table in tables:
        for row in table.rows:
            joined.add(table.columns[1], table.columns[2], *row)
    return joined


def chosen_scores(
    comparisons: Sequence[ScoreComparison], scores: str, directory: Path
) -> list[ScoreComparison]:
    """Return the comparisons of ``SPLIT/SCORE, ...``."""
    by_name = {
        f"{c.split}/{c.score}": c for c in comparisons if c.stratum is None and c.strength is None
    }
    names = [name.strip() for name in scores.split(",")]
    if unknown := [name for name in names if name not in by_name]:
        sys.exit(f"error: {directory}: unknown score {unknown[0]}. Expected: {', '.join(by_name)}")
    return [by_name[name] for name in names]


def markdown(table: Table) -> str:
    """Return a table of the report as Markdown."""
    text = "\n".join(
        f"| {' | '.join(cells)} |"
        for cells in [
            table.columns,
            ["---" if n in table.text_columns else "---:" for n in range(len(table.columns))],
            *[[shown(cell) for cell in row] for row in table.rows],
        ]
    )
    return f"*{table.caption}*\n\n{text}\n" if table.caption else f"{text}\n"


def shown(cell: TableCell) -> str:
    """Return a cell in one line, followed by its note in small type."""
    note = f"<br><small>{cell.note}</small>" if cell.note else ""
    return f"{cell.text}{note}".replace("|", "\\|")


if __name__ == "__main__":
    main()
