"""The tables of a map, and the words shared with its figure."""

from collections.abc import Iterable, Iterator, Sequence

from ntpctp._core.text import plural
from ntpctp.report.html import wording
from ntpctp.report.html.headline import label_of, spread_mean, stored_verdict
from ntpctp.report.html.map_cells import CellDifference, MapCell, PairMap
from ntpctp.report.html.tables import Table
from ntpctp.report.verdict_words import shown_verdict

_ALONE = " alone, not among all pairs"
"""End of a verdict of ``statistics.verdict`` that is not significant after correction."""


def summary(found: PairMap) -> str:
    """Return a sentence with the number of cells in which each of two arms is better."""
    known = [entry for entry in found.cells if estimate_of(entry) is not None]
    a, b = (sum(entry.better == arm for entry in known) for arm in (found.a, found.b))
    same = sum(e.verdict is not None and e.verdict.decision == "no difference" for e in known)
    words = (
        f"{found.a} is better in {a} of {plural(len(known), 'cell')}, {found.b} in {b} "
        "(corrected for the whole map, Holm)"
    )
    if same:
        words += f"; in {same} the difference is within the margin"
    if others := len(known) - a - b - same:
        words += f"; {others} not decided"
    if len(known) < len(found.cells):
        words += f"; {plural(len(found.cells) - len(known), 'cell')} without a difference"
    return f"{words}."


def effects_table(found: PairMap) -> Table:
    """Return the effect of each setting of the map on the difference of two arms."""
    unit = next((entry.cell.primary.unit for entry in found.cells if entry.cell.primary), "")
    table = Table(
        f"Effect of each setting on {found.a} minus {found.b}, averaged over all other settings"
        + (f" ({plural(len(found.seeds), 'seed')})" if found.seeds else ""),
        ("setting", "from", "to", "change of the difference", "interval", "p (Holm)"),
        text_columns=frozenset({0}),
    )
    for effect in found.effects:
        change = wording.difference(effect.estimate, unit)
        ends = wording.interval(effect.low, effect.high, unit)
        p_value = wording.p_digits(effect.holm_p_value)
        table.add(effect.setting, effect.start, effect.end, change, ends, p_value)
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
        result, primary = entry.pair.difference if entry.pair else None, entry.cell.primary
        numbers: list[str | None] = [None] * 5
        if result is not None and primary is not None:
            means = (mean_of(entry.cell, arm) for arm in (found.a, found.b))
            numbers = [
                *(wording.value(mean, primary.unit) for mean in means),
                wording.difference(result.estimate, primary.unit),
                wording.interval(result.low, result.high, primary.unit),
                wording.p_digits(entry.holm_p_value),
            ]
        score = label_of(primary) if primary else wording.NO_VALUE
        table.add(*entry.cell.levels.values(), score, *numbers, words_of(entry))
    return table


def cells_table(cells: Sequence[MapCell]) -> Table:
    """Return the score of every cell, and each arm's mean on its training items."""
    arms = next((list(cell.experiment.arms) for cell in cells if cell.experiment), [])
    fields = list(cells[0].levels)
    table = Table(
        "Mean over seeds on training items, if measured (accuracy: train_items)",
        (*fields, "score", *arms),
        text_columns=frozenset(range(len(fields) + 1)),
    )
    for cell in cells:
        unit = cell.primary.unit if cell.primary else ""
        known = (cell.training.get(arm) for arm in arms)
        score = label_of(cell.primary) if cell.primary else cell.reason or ""
        table.add(*cell.levels.values(), score, *(wording.value(v, unit) for v in known))
    return table


def words_of(entry: CellDifference) -> str:
    """Return the verdict on two arms in one cell, or why there is none, as readers see it."""
    return shown_verdict(stored_words(entry))


def stored_words(entry: CellDifference) -> str:
    """Return the verdict on two arms in one cell, or why there is none, as ``map.json`` has it."""
    if entry.cell.primary is None or entry.pair is None:
        return entry.cell.reason or "these arms are not compared"
    if entry.verdict is None:
        return entry.pair.reason or "no direction is better"
    if entry.verdict.decision == "undecided" and entry.verdict.words.endswith(_ALONE):
        return f"{entry.verdict.words.removesuffix(_ALONE)} alone, not in the whole map"
    return stored_verdict(entry.verdict, entry.cell.primary.unit)


def named(fields: Iterable[str], levels: Iterable[str]) -> Iterator[str]:
    """Yield settings as figures label them: ``train size 300``."""
    for field, level in zip(fields, levels, strict=True):
        yield f"{short(field)} {level}"


def short(field: str) -> str:
    """Return a field as figures label it: its last part."""
    return field.split(".")[-1].replace("_", " ")


def estimate_of(entry: CellDifference) -> float | None:
    """Return the difference in a cell; None if it is missing."""
    return entry.pair.difference.estimate if entry.pair and entry.pair.difference else None


def mean_of(cell: MapCell, arm: str) -> float | None:
    """Return the mean over seeds of an arm in a cell."""
    return spread_mean(cell.primary, arm) if cell.primary else None


def is_unfit(cell: MapCell, arm: str) -> bool:
    """Whether an arm misses the experiment's target on its own training items."""
    primary, known = cell.primary, cell.training.get(arm)
    if primary is None or known is None or primary.target is None:
        return False
    return known < primary.target if primary.higher_is_better else known > primary.target
