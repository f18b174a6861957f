"""Other axes for learning curves than optimizer steps: tokens read, supervised tokens."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

AXES = {
    "tokens": "tokens read in training, padding excluded",
    "supervised_tokens": "supervised tokens in training",
}


def axes(frame: pd.DataFrame, arms: Sequence[str]) -> dict[str, Any]:
    """Return, for each axis, its title and the position of every step of every arm, in order.

    A position is one number where all seeds share it, otherwise one for each seed. The script of
    the page moves curves there: a seed's points to its own position, means over seeds to the mean
    of the seeds' positions.
    """
    runs = frame[["arm", "seed", "step", *AXES]].drop_duplicates()
    positions: dict[str, list[dict[str, Any]]] = {name: [{} for _ in arms] for name in AXES}
    for (arm, step), group in runs.groupby(["arm", "step"]):
        for name in AXES:
            values = dict(zip(map(str, group["seed"]), map(int, group[name]), strict=True))
            same = len(set(values.values())) == 1
            of_arm = positions[name][arms.index(str(arm))]
            of_arm[str(step)] = next(iter(values.values())) if same else values
    return {name: {"title": title, "arms": positions[name]} for name, title in AXES.items()}
