"""One comparison of several experiments on the same data.

Within an experiment only the objective differs, because all runs come from one file. Between
experiments nothing guarantees that: the result lists all settings that differ, and names with its
reason everything that cannot be paired.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ntpctp._core.layout import RunId
from ntpctp._core.provenance import PROVENANCE
from ntpctp._core.text import flat, listed
from ntpctp.analysis.comparison import (
    ComparisonSpec,
    ScoreComparison,
    compare_scores,
    comparison_spec,
)
from ntpctp.analysis.joins.item_rows import JoinedItemRows
from ntpctp.analysis.joins.stored_experiments import StoredExperiment
from ntpctp.analysis.matched_budget import read_flops
from ntpctp.analysis.run_scores import LEARNING
from ntpctp.config import Experiment


@dataclass(frozen=True)
class ExperimentGroup:
    """Experiments on the same data, compared as one.

    Attributes:
        label: names of the experiments.
        experiments: the experiments.
        spec: joined arms, all seeds; level, margins and targets of the first experiment.
        comparisons: of all scores; one score has several if it was measured in several ways.
        differing: setting -> joined arm -> its value, for settings that the arms do not share.
        notes: what is not joined or not paired, and why.
    """

    label: str
    experiments: list[StoredExperiment]
    spec: ComparisonSpec
    comparisons: list[ScoreComparison]
    differing: dict[str, dict[str, str]]
    notes: list[str]


def group_by_data(experiments: Sequence[StoredExperiment]) -> list[ExperimentGroup]:
    """Return one group for every set of experiments on the same data, in their order."""
    by_data: dict[str, list[StoredExperiment]] = {}
    for stored in experiments:
        by_data.setdefault(stored.data or f"unknown: {stored.directory}", []).append(stored)
    return [_group(members) for members in by_data.values()]


def notes_on_data(groups: Sequence[ExperimentGroup]) -> list[str]:
    """Return why experiments are in different groups: which settings of their data differ."""
    notes = [
        f"{stored.label}: not paired with others: {PROVENANCE} does not record its data"
        for group in groups
        for stored in group.experiments
        if stored.data is None
    ]
    first, *others = groups
    for other in others:
        ours, theirs = (_data_settings(g.experiments[0].experiment) for g in (first, other))
        fields = [
            f"{field} {ours.get(field)} and {theirs.get(field)}"
            for field in sorted({*ours, *theirs})
            if ours.get(field) != theirs.get(field)
        ]
        cause = "; ".join(fields[:4]) or "all recorded settings are equal, so files or versions do"
        more = f"; {len(fields) - 4} more" if len(fields) > 4 else ""
        notes.append(
            f"{first.label} and {other.label}: not paired, because their data differ "
            f"({cause}{more})"
        )
    return notes


JoinedNames = dict[tuple[int, str], str]
"""(index of an experiment, name of its arm) -> name of the joined arm."""


def _group(experiments: Sequence[StoredExperiment]) -> ExperimentGroup:
    joined = _joined_names(experiments)
    spec = _joined_spec(experiments, joined)
    frames = [
        stored.frame.assign(
            arm=stored.frame["arm"].map({a: name for (i, a), name in joined.items() if i == index})
        )
        for index, stored in enumerate(experiments)
    ]
    items = JoinedItemRows(
        {name: (experiments[index], arm) for (index, arm), name in joined.items()},
        pd.concat(frames, ignore_index=True),
    )
    comparisons: list[ScoreComparison] = []
    notes = _notes_on_seeds(experiments) + _notes_on_rules(experiments)
    for measure in dict.fromkeys(m for frame in frames for m in frame["measure"].unique()):
        ways = _ways(experiments, frames, measure)
        notes += _notes_on_ways(experiments, measure, ways)
        for members in ways.values():
            rows = pd.concat([frames[index] for index in members], ignore_index=True)
            comparisons += compare_scores(spec, rows[rows["measure"] == measure], items)
    return ExperimentGroup(
        label=listed(stored.label for stored in experiments),
        experiments=list(experiments),
        spec=spec,
        comparisons=comparisons,
        differing=_differing(experiments, joined) if len(experiments) > 1 else {},
        notes=notes,
    )


def _joined_names(experiments: Sequence[StoredExperiment]) -> JoinedNames:
    """Name the joined arms; a name that several experiments use gets the experiment's label."""
    count = Counter(arm for stored in experiments for arm in stored.experiment.arms)
    return {
        (index, arm): arm if count[arm] == 1 else f"{stored.label}/{arm}"
        for index, stored in enumerate(experiments)
        for arm in stored.experiment.arms
    }


def _joined_spec(experiments: Sequence[StoredExperiment], joined: JoinedNames) -> ComparisonSpec:
    first, alone = comparison_spec(experiments[0].experiment), len(experiments) == 1
    return ComparisonSpec(
        steps={
            name: experiments[index].experiment.arms[arm].training.steps
            for (index, arm), name in joined.items()
        },
        seeds=sorted({seed for stored in experiments for seed in stored.experiment.seeds}),
        level=first.level,
        margin=first.margin,
        factors=first.factors if alone else {},
        targets=first.targets,
        held_out=first.held_out,
        flops={
            joined[index, arm]: flops
            for index, stored in enumerate(experiments)
            for arm, flops in read_flops(stored.directory).items()
        },
        baseline=first.baseline if alone else None,
    )


def _ways(
    experiments: Sequence[StoredExperiment], frames: Sequence[pd.DataFrame], measure: str
) -> dict[str, list[int]]:
    """Return options of a measure -> indices of the experiments that measured with them."""
    ways: dict[str, list[int]] = {}
    for index, (stored, frame) in enumerate(zip(experiments, frames, strict=True)):
        if (frame["measure"] == measure).any():
            settings = _measure_settings(stored.experiment, measure)
            key = ", ".join(f"{field}: {value}" for field, value in settings.items())
            ways.setdefault(key, []).append(index)
    return ways


def _measure_settings(experiment: Experiment, measure: str) -> dict[str, object]:
    if measure == LEARNING:
        shared = {"every": experiment.evaluation.every}
        return shared | {f"targets.{k}": v for k, v in experiment.comparison.targets.items()}
    for options in experiment.evaluation.measures:
        if options.name == measure:
            return flat(options.model_dump(mode="json", exclude={"at"}))
    return {"options": "unknown: the experiment file does not list it"}


def _notes_on_ways(
    experiments: Sequence[StoredExperiment], measure: str, ways: Mapping[str, Sequence[int]]
) -> list[str]:
    notes = []
    if len(ways) > 1:
        by_way = [listed(experiments[i].label for i in members) for members in ways.values()]
        options = [_measure_settings(experiments[m[0]].experiment, measure) for m in ways.values()]
        differing = [
            f"{field} "
            + " and ".join(
                f"{way.get(field)} ({labels})" for way, labels in zip(options, by_way, strict=True)
            )
            for field in sorted({f for of_way in options for f in of_way})
            if len({str(way.get(field)) for way in options}) > 1
        ]
        notes.append(
            f"{measure}: not paired between experiments that measured it with different options: "
            + "; ".join(differing)
        )
    without = [
        stored.label
        for index, stored in enumerate(experiments)
        if not any(index in members for members in ways.values())
    ]
    if without:
        notes.append(f"{measure}: not measured by {listed(without)}, so not paired")
    return notes


def _notes_on_seeds(experiments: Sequence[StoredExperiment]) -> list[str]:
    shared = set.intersection(*(set(stored.experiment.seeds) for stored in experiments))
    notes = []
    for stored in experiments:
        alone = [str(seed) for seed in stored.experiment.seeds if seed not in shared]
        if alone:
            notes.append(
                f"{stored.label}: seeds {', '.join(alone)} are not in all experiments, so they "
                "count only in pairs of arms that both have them"
            )
        notes += _notes_on_unfinished(stored)
    return notes


def _notes_on_unfinished(stored: StoredExperiment) -> list[str]:
    """Return notes on the runs of an experiment without scores at their last step."""
    frame, arms = stored.frame, stored.experiment.arms
    steps = {name: arm.training.steps for name, arm in arms.items()}
    measured = set(zip(frame["arm"], frame["seed"], strict=True))
    last = frame[frame["step"] == frame["arm"].map(steps)]
    finished = set(zip(last["arm"], last["seed"], strict=True))
    notes = []
    for run in (RunId(arm, seed) for arm in arms for seed in stored.experiment.seeds):
        if (run.arm, run.seed) not in finished:
            step = " at its last step" if (run.arm, run.seed) in measured else ""
            notes.append(f"{stored.label}: {run} is left out: not measured{step}")
    return notes


def _notes_on_rules(experiments: Sequence[StoredExperiment]) -> list[str]:
    """Return which experiment's level, margins and targets apply, if they differ."""
    first, *others = (
        (rules.level, rules.margin, rules.targets)
        for rules in (stored.experiment.comparison for stored in experiments)
    )
    notes = []
    if not all(other == first for other in others):
        notes.append(
            "level, margins or targets differ between the experiments: those of "
            f"{experiments[0].label} apply"
        )
    alone = [stored.label for stored in experiments if stored.experiment.comparison.baseline]
    if others and alone:
        notes.append(
            f"all pairs of joined arms are compared, although {listed(alone)} named a baseline"
        )
    return notes


def _differing(
    experiments: Sequence[StoredExperiment], joined: JoinedNames
) -> dict[str, dict[str, str]]:
    """Return setting -> joined arm -> value, for all settings in which joined arms differ."""
    settings = {}
    for (index, arm), name in joined.items():
        experiment = experiments[index].experiment
        settings[name] = {
            **flat(experiment.arms[arm].model_dump(mode="json")),
            **_data_settings(experiment),
            **flat({"evaluation": {"every": experiment.evaluation.every}}),
            **flat({"version": dict(experiments[index].packages)}),
        }
    fields = dict.fromkeys(field for of_arm in settings.values() for field in of_arm)
    return {
        field: {name: str(of_arm.get(field, "-")) for name, of_arm in settings.items()}
        for field in fields
        if len({str(of_arm.get(field, "-")) for of_arm in settings.values()}) > 1
    }


def _data_settings(experiment: Experiment) -> dict[str, object]:
    dump = experiment.model_dump(mode="json", include={"task", "data", "tokenizer"})
    return flat(dump)
