"""Where learning curves can stand besides optimizer steps: tokens read, and supervised ones."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

AXES = {
    "tokens": "tokens read in training, padding excluded",
    "supervised_tokens": "supervised tokens in training",
}


def axes(frame: pd.DataFrame, arms: Sequence[str]) -> dict[str, Any]:
    """Return, for each axis, its title and the place of every step of every arm.

    A place is one number where all seeds have the same, else one for each seed. The page moves its
    curves there: a seed's points to its own place, means over seeds to the mean of theirs.

    Args:
        frame: all scores.
        arms: in the order of their numbers in the figures.
    """
    runs = frame[["arm", "seed", "step", *AXES]].drop_duplicates()
    places: dict[str, list[dict[str, Any]]] = {name: [{} for _ in arms] for name in AXES}
    for (arm, step), group in runs.groupby(["arm", "step"]):
        for name in AXES:
            values = dict(zip(map(str, group["seed"]), map(int, group[name]), strict=True))
            same = len(set(values.values())) == 1
            of_arm = places[name][arms.index(str(arm))]
            of_arm[str(step)] = next(iter(values.values())) if same else values
    return {name: {"title": title, "arms": places[name]} for name, title in AXES.items()}
