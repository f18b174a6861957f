"""Batches within a budget, and what happens when the memory is short."""

import subprocess
import sys

import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.models.inference import TokenBudget, batches_by_length
from ntpctp.models.inference.batches import MAX_TOKENS, is_out_of_memory
from tests.models.inference.small_models import random_model

LENGTHS = [5, 3, 9, 3, 30, 1]


def test_batches_cover_every_item_once_and_keep_the_bound():
    batches = list(batches_by_length(LENGTHS, 12))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    assert len(batches) == 4
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(LENGTHS[i] for i in batch) <= 12


def test_a_stated_budget_is_kept():
    seen = []
    TokenBudget(12).run(LENGTHS, seen.append, random_model("gpt2"))
    assert seen == list(batches_by_length(LENGTHS, 12))


def test_a_budget_is_found():
    seen = []
    TokenBudget().run([10] * 500, seen.append, random_model("gpt2"))
    assert [len(batch) for batch in seen[:2]] == [MAX_TOKENS["cpu"] // 10] * 2


def test_little_free_memory_makes_small_batches(monkeypatch):
    monkeypatch.setattr("ntpctp.models.inference.batches._free_bytes", lambda model: 1_000_000)
    seen = []
    TokenBudget().run([10] * 500, seen.append, random_model("gpt2"))
    # A quarter of it, by 14 x 16 + 2 x 2 x 10 numbers of 8 bytes a token.
    assert len(seen[0]) == 250_000 // (264 * 8) // 10


def short_of_memory(most):
    """Work that fails as PyTorch does on a CPU where a batch has more than ``most`` rows."""
    done = []

    def work(batch):
        if len(batch) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        done.extend(batch)

    return work, done


def test_what_does_not_fit_is_cut_up_once_and_for_all():
    work, done = short_of_memory(2)
    budget = TokenBudget(80)
    budget.run([10] * 9, work, random_model("gpt2"))
    assert sorted(done) == list(range(9)) and len(done) == 9
    assert budget.tokens == 20  # 8, then 4, then 2 rows


def test_a_row_that_does_not_fit_is_an_error_that_says_what_helps():
    work, _ = short_of_memory(0)
    with pytest.raises(InputError, match="out of memory on one sequence of 7 tokens: shorten it"):
        TokenBudget(50).run([7, 3], work, random_model("gpt2"))


def test_other_faults_are_not_taken_for_a_lack_of_memory():
    def work(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        TokenBudget(50).run([7, 3], work, random_model("gpt2"))


@pytest.mark.slow
def test_the_words_of_pytorch_are_known():
    """A real allocation that fails, in a process of its own that may not have more memory."""
    code = """
import resource, torch
resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))
try:
    torch.empty(2**40, dtype=torch.uint8)
except RuntimeError as error:
    from ntpctp.models.inference.batches import is_out_of_memory
    raise SystemExit(0 if is_out_of_memory(error) else 1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
