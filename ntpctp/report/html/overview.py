"""The primary score at the top of the page: a table of the arms, a figure of every seed."""

from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.curves import MIN_SEEDS
from ntpctp.report.html.headline import label_of, worst_seed
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.seeds_figure import seeds_figure
from ntpctp.report.html.tables import Table, arm_cells

MOST_PAIRS = 6
"""Pairs of arms in the figure at the top and with their items; the tables have all pairs."""


def overview_table(experiment: Experiment, primary: ScoreComparison | None) -> Table | None:
    """Return mean and spread of each arm on the primary score."""
    if primary is None:
        return None
    cells, unit = arm_cells(experiment.arms), primary.unit
    table = Table(
        f"{label_of(primary)} at the last step",
        ("arm", "mean", "sd over seeds", "worst seed", "seeds"),
    )
    for name in experiment.arms:
        spread = primary.arms.get(name)
        if spread is None:
            table.add(cells[name], None, None, None, "0")
            continue
        sd = spread.standard_deviation
        words = "unknown" if sd is None else wording.width(sd, unit)
        mean, worst = (wording.value(x, unit) for x in (spread.mean, worst_seed(primary, name)))
        table.add(cells[name], mean, words, worst, str(spread.num_seeds))
    return table


def overview_panel(
    experiment: Experiment, primary: ScoreComparison | None, chance_levels: ChanceLevels
) -> Panel | None:
    """Return the figure at the top: every seed by arm, and every difference by pair."""
    if primary is None or not any(primary.arms.values()):
        return None
    arms, level = list(experiment.arms), experiment.comparison.level
    pairs = [pair for pair in primary.pairs if pair.difference is not None][:MOST_PAIRS]
    label = label_of(primary)
    title = f"{wording.capital(label)}: every seed"
    table = Table(f"{title}, {wording.shown_unit(primary.unit)}", ("seed", *arms))
    for seed in experiment.seeds:
        values = (primary.values.get(name, {}).get(seed) for name in arms)
        table.add(str(seed), *(wording.value(value, primary.unit) for value in values))
    description = ". " + " ".join(
        f"{name}: mean {wording.quantity(spread.mean, primary.unit)}, from "
        f"{wording.value(spread.min, primary.unit)} to {wording.value(spread.max, primary.unit)}."
        for name, spread in primary.arms.items()
        if spread is not None
    )
    notes = ["point: seed"]
    if len(experiment.seeds) > 1:
        interval = f" with {wording.percent(level)} interval" * (len(experiment.seeds) >= MIN_SEEDS)
        notes.append(f"diamond: mean over seeds{interval}")
    chance = chance_levels.of(primary.measure, primary.split, primary.score)
    if chance is not None:
        words = wording.value(chance, primary.unit)
        notes.append(f"dotted: accuracy of guessing among the candidates, {words}")
    if pairs:
        notes.append("below: difference, same seed in both arms")
        if primary.margin is not None:
            margin = wording.width(primary.margin, primary.unit)
            notes.append(f"shaded: margin of the experiment file, ±{margin}")
    if len(pairs) < len(primary.pairs):
        notes.append(f"{len(pairs)} of {len(primary.pairs)} pairs")
    figure = seeds_figure(primary, arms, pairs, level, chance)
    return panel(title, figure, table, notes=notes, description=description, legend=False)
