"""Contrast sets: does the answer follow a small change of the premises that changes what is right?

Source: "Evaluating Models' Local Decision Boundaries via Contrast Sets" (Gardner et al. 2020, arXiv
2004.02709).
"""

from typing import ClassVar, Literal

from pydantic import Field

from ntpctp.measures.fields import FirstItems
from ntpctp.measures.measure import BuiltIn


class Contrast(BuiltIn):
    """Accuracy on pairs of an item and a minimal edit of it that has another right answer.

    The task itself defines the edit and its answer (docs/data.md); all arms, seeds and steps get
    the same ones. An item is right as in the measure ``robustness``. A model that answers by the
    surface of a question is right on at most one item of a pair.

    Scores of each held-out split, over the items that have such an edit. Edited items that equal a
    training example or exceed the context length are left out, as in ``edits``.

    * ``contrast_pairs``: share of all items that have a pair.
    * ``contrast_original``, ``contrast_edited``: share of items that are right before and after the
      edit, mean over draws.
    * ``contrast_consistency``: share of pairs both of whose items are right.
    * ``contrast_followed``: share of edited items that are right, among those whose original is
      right.
    """

    name: Literal["contrast"] = "contrast"
    draws: int = Field(1, ge=1, description="random edits of each item")
    max_items: FirstItems = 200
    seed: int = Field(0, ge=0, description="seed of the edits")
    version: ClassVar[int] = 2
    by_default: ClassVar[bool] = False
    uses_max_length: ClassVar[bool] = True
