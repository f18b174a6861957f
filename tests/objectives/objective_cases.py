"""One objective of every kind, and a reference model for those that need one."""

import numpy as np

from ntpctp.objectives import (
    CTP,
    NTP,
    Noisy,
    Partial,
    Random,
    Schedule,
    Selective,
    Shuffled,
    Weighted,
)

FADING = {"phases": [{"objective": "ntp", "until": 2}, {"objective": "ctp"}], "fade": 4}
OBJECTIVES = {
    "ntp": NTP(),
    "ctp": CTP(),
    "ctp, sequence": CTP(normalisation="sequence"),
    "weighted": Weighted(prompt=0.25, answer=2.0),
    "partial": Partial(keep=0.5),
    "random": Random(),
    "shuffled": Shuffled(),
    "noisy": Noisy(rate=0.5, base="ntp"),
    "selective": Selective(reference="r", fraction=0.5),
    "fading schedule": Schedule(**FADING),
}


def losses_of(checkpoint, rows):
    """A made-up reference model: some tokens are easy for it, others hard."""
    return [np.cos(np.arange(len(row)) * 2.5).astype(np.float32) + 2 for row in rows]
