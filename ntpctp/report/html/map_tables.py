"""The tables of a map, and the words that they share with its figure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ntpctp._core.text import plural
from ntpctp.report.html import wording
from ntpctp.report.html.headline import label_of, verdict_words
from ntpctp.report.html.map_cells import CellDifference, MapCell, PairMap
from ntpctp.report.html.tables import Table, TableCell

_ALONE = " alone, not among all pairs"
"""How ``statistics.verdict`` ends where a correction takes a decision away."""


def summary(found: PairMap) -> str:
    """Say in how many cells each of two arms is better."""
    known = [entry for entry in found.cells if estimate_of(entry) is not None]
    a, b = (sum(entry.better == arm for entry in known) for arm in (found.a, found.b))
    same = sum(e.verdict is not None and e.verdict.decision == "no difference" for e in known)
    words = (
        f"{found.a} is better in {a} of {plural(len(known), 'cell')}, {found.b} in {b} "
        "(corrected for the whole map, Holm)"
    )
    if same:
        words += f"; in {same} the difference lies within the margin"
    if others := len(known) - a - b - same:
        words += f"; in {others} the data do not say"
    if len(known) < len(found.cells):
        words += f"; {plural(len(found.cells) - len(known), 'cell')} without a difference"
    return f"{words}."


def effects_table(found: PairMap) -> Table:
    """Return how the difference of two arms moves with each setting of the map."""
    unit = next((entry.cell.primary.unit for entry in found.cells if entry.cell.primary), "")
    table = Table(
        f"How {found.a} minus {found.b} moves with each setting, averaged over all others"
        + (f" ({plural(len(found.seeds), 'seed')})" if found.seeds else ""),
        ("setting", "from", "to", "change of the difference", "interval", "p (Holm)"),
        text_columns=frozenset({0}),
    )
    for effect in found.effects:
        table.add(
            effect.setting,
            effect.start,
            effect.end,
            wording.difference(effect.estimate, unit),
            wording.interval(effect.low, effect.high, unit),
            wording.NO_VALUE if effect.holm_p_value is None else f"{effect.holm_p_value:.2g}",
        )
    return table


def map_table(found: PairMap) -> Table:
    """Return the difference of two arms in every cell."""
    fields = list(found.cells[0].cell.levels)
    table = Table(
        f"{found.a} minus {found.b} in every cell",
        (*fields, "score", found.a, found.b, "difference", "interval", "p (Holm)", "verdict"),
        text_columns=frozenset({*range(len(fields) + 1), len(fields) + 6}),
    )
    for entry in found.cells:
        levels = list(entry.cell.levels.values())
        result = entry.pair.difference if entry.pair else None
        primary = entry.cell.primary
        score = label_of(primary) if primary else wording.NO_VALUE
        if result is None or primary is None:
            table.add(*levels, score, *[wording.NO_VALUE] * 5, words_of(entry))
            continue
        p = entry.holm_p_value
        table.add(
            *levels,
            score,
            *(wording.value(mean_of(entry.cell, arm), primary.unit) for arm in (found.a, found.b)),
            wording.difference(result.estimate, primary.unit),
            wording.interval(result.low, result.high, primary.unit),
            wording.NO_VALUE if p is None else f"{p:.2g}",
            words_of(entry),
        )
    return table


def cells_table(cells: Sequence[MapCell]) -> Table:
    """Return what every cell is about, and how well each arm knows its training items."""
    arms = next((list(cell.experiment.arms) for cell in cells if cell.experiment), [])
    fields = list(cells[0].levels)
    table = Table(
        "Mean over seeds on training items, as far as it is measured (accuracy: train_items)",
        (*fields, "score", *arms),
        text_columns=frozenset(range(len(fields) + 1)),
    )
    for cell in cells:
        unit = cell.primary.unit if cell.primary else ""
        known = (cell.training.get(arm) for arm in arms)
        table.add(
            *cell.levels.values(),
            TableCell(label_of(cell.primary) if cell.primary else cell.reason or ""),
            *(wording.NO_VALUE if v is None else wording.value(v, unit) for v in known),
        )
    return table


def words_of(entry: CellDifference) -> str:
    """Return the verdict on two arms in one cell of a map, or why there is none."""
    if entry.cell.primary is None or entry.pair is None:
        return entry.cell.reason or "these arms are not compared"
    if entry.verdict is None:
        return verdict_words(entry.pair, entry.cell.primary.unit)
    if entry.verdict.decision == "undecided" and entry.verdict.words.endswith(_ALONE):
        return f"{entry.verdict.words.removesuffix(_ALONE)} alone, not in the whole map"
    return verdict_words(replace(entry.pair, verdict=entry.verdict), entry.cell.primary.unit)


def named(fields: Iterable[str], levels: Iterable[str]) -> Iterator[str]:
    """Yield settings as figures name them: ``train size 300``."""
    for field, level in zip(fields, levels, strict=True):
        yield f"{short(field)} {level}"


def short(field: str) -> str:
    """Return a field as figures name it: its last part."""
    return field.split(".")[-1].replace("_", " ")


def estimate_of(entry: CellDifference) -> float | None:
    """Return the difference in a cell, if there is one."""
    return entry.pair.difference.estimate if entry.pair and entry.pair.difference else None


def mean_of(cell: MapCell, arm: str) -> float | None:
    """Return the level of an arm in a cell."""
    spread = cell.primary.arms.get(arm) if cell.primary else None
    return spread.mean if spread else None


def is_unfit(cell: MapCell, arm: str) -> bool:
    """Whether an arm has not learned its own training items to the experiment's target."""
    primary, known = cell.primary, cell.training.get(arm)
    if primary is None or known is None or primary.target is None:
        return False
    return known < primary.target if primary.higher_is_better else known > primary.target
