"""The count of operations against PyTorch's own counter."""

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from ntpctp.data.encoded import EncodedExample
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.models.build import build_model
from ntpctp.models.flops import training_flops
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, no_reference_losses
from ntpctp.objectives.collator import collate
from ntpctp.objectives.loss import token_loss


@pytest.mark.parametrize("family", ["gpt2", "llama", "openai-gpt"])
@pytest.mark.parametrize("objective", [NTP(), CTP()])
def test_counts_what_pytorch_counts(family, objective):
    tokenizer = closed_tokenizer(["abcdefghij"], "characters")
    options = ModelOptions(family=family, layers=3, width=16, heads=2, context=16)
    model = build_model(options, tokenizer, 16, 0)
    model.set_attn_implementation("eager")
    row = EncodedExample(np.arange(7), np.array([0, 0, 0, 0, 0, 2, 2], np.uint8), 5)
    batch = collate([row], objective.supervise([row], no_reference_losses))
    with FlopCounterMode(display=False) as counter:
        loss, _ = token_loss(model, batch)
        loss.backward()
    seen = int(batch["num_supervised"])
    found = training_flops(model, [len(row)], [seen])
    assert found.dtype == np.float64 and found.shape == (1,)
    assert found[0] == pytest.approx(counter.get_total_flops(), rel=1e-12)
