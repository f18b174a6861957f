"""The tables of a map, and the words that they share with its figure."""

from collections.abc import Iterable, Iterator, Sequence

from ntpctp.report import wording
from ntpctp.report.headline import label_of, verdict_words
from ntpctp.report.map_cells import CellDifference, MapCell, PairMap
from ntpctp.report.tables import Cell, Table


def summary(found: PairMap) -> str:
    """Say in how many cells each of two arms is better."""
    known = [entry for entry in found.cells if estimate_of(entry) is not None]
    a, b = (sum(entry.better == arm for entry in known) for arm in (found.a, found.b))
    same = sum(_is_same(entry) for entry in known)
    words = (
        f"{found.a} is better in {a} of {wording.plural(len(known), 'cell')}, {found.b} in {b} "
        "(corrected for all cells, Holm)"
    )
    if same:
        words += f"; in {same} the difference lies within the margin"
    if others := len(known) - a - b - same:
        words += f"; in {others} the data do not say"
    if len(known) < len(found.cells):
        words += f"; {wording.plural(len(found.cells) - len(known), 'cell')} without a difference"
    return f"{words}."


def _is_same(entry: CellDifference) -> bool:
    verdict = entry.pair.verdict if entry.pair else None
    return entry.better is None and verdict is not None and verdict.decision == "no difference"


def effects_table(found: PairMap) -> Table:
    """Return how the difference of two arms moves with each setting of the map."""
    unit = unit_of(found.cells)
    table = Table(
        f"How {found.a} minus {found.b} moves with each setting, averaged over all others"
        + (f" ({wording.plural(len(found.seeds), 'seed')})" if found.seeds else ""),
        ("setting", "from", "to", "change of the difference", "interval", "p (Holm)"),
        text_columns=frozenset({0}),
    )
    for entry in found.effects:
        (field,), ((first, second),) = entry.effect.factors, entry.effect.levels
        result = entry.effect.difference
        # An effect is the first level minus the second; read it in the order of the file.
        low = None if result.high is None else -result.high
        high = None if result.low is None else -result.low
        table.add(
            field,
            first,
            second,
            wording.difference(-result.estimate, unit),
            wording.interval(low, high, unit),
            wording.NO_VALUE if entry.holm_p_value is None else f"{entry.holm_p_value:.2g}",
        )
    return table


def map_table(found: PairMap) -> Table:
    """Return the difference of two arms in every cell."""
    unit = unit_of(found.cells)
    fields = list(found.cells[0].cell.levels)
    table = Table(
        f"{found.a} minus {found.b} in every cell",
        (*fields, found.a, found.b, "difference", "interval", "p (Holm)", "verdict"),
        text_columns=frozenset({*range(len(fields)), len(fields) + 5}),
    )
    for entry in found.cells:
        levels = list(entry.cell.levels.values())
        result = entry.pair.difference if entry.pair else None
        if result is None or entry.pair is None or entry.cell.primary is None:
            reason = entry.cell.reason or (entry.pair.reason if entry.pair else None)
            table.add(*levels, *[wording.NO_VALUE] * 5, reason or "these arms are not compared")
            continue
        p = entry.holm_p_value
        table.add(
            *levels,
            *(wording.value(mean_of(entry.cell, arm), unit) for arm in (found.a, found.b)),
            wording.difference(result.estimate, unit),
            wording.interval(result.low, result.high, unit),
            wording.NO_VALUE if p is None else f"{p:.2g}",
            words_of(entry, unit),
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
            Cell(label_of(cell.primary) if cell.primary else cell.reason or ""),
            *(wording.NO_VALUE if v is None else wording.value(v, unit) for v in known),
        )
    return table


def words_of(entry: CellDifference, unit: str) -> str:
    """Return the verdict on two arms in one cell of a map."""
    if entry.better is not None:
        return f"{entry.better} better"
    verdict = entry.pair.verdict if entry.pair else None
    if verdict is None or entry.pair is None:
        return entry.cell.reason or "no difference can be taken"
    if verdict.decision == "better":
        return "the data do not say: decided alone, not among all cells"
    return verdict_words(entry.pair, unit)


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


def unit_of(cells: Sequence[CellDifference]) -> str:
    """Return the unit of the score that a map is about."""
    return next((entry.cell.primary.unit for entry in cells if entry.cell.primary), "")


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
