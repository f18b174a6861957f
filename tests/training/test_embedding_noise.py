"""Noise on the embeddings while training: whose it is, and that it leaves no trace."""

import numpy as np
import pytest
import torch

from ntpctp._core.rng import generator
from ntpctp.training import TrainingOptions
from ntpctp.training.noise import EmbeddingNoise
from tests.training.test_training import OPTIONS, assert_same, model_of, run


def test_embedding_noise_is_that_of_seed_step_place_and_position():
    model = model_of()
    bare = model.get_input_embeddings()(torch.arange(24).reshape(4, 6) % 12)
    noise = EmbeddingNoise(model, 0.5, seed=3)
    embedding = model.get_input_embeddings()

    def added(step, places, length=6):
        noise.draw(step, places)
        ids = (torch.arange(24).reshape(4, 6) % 12)[places][:, :length]
        return embedding(ids) - bare[places][:, :length]

    whole = added(7, [0, 1, 2, 3])
    torch.testing.assert_close(added(7, [3, 1]), whole[[3, 1]], rtol=0, atol=0)
    torch.testing.assert_close(added(7, [2], 4), whole[[2], :4], rtol=0, atol=1e-15)
    assert (added(8, [0, 1, 2, 3]) - whole).abs().min() > 0
    scale = 0.5 * embedding.weight.std()
    by_hand = generator(3, "embedding noise", 7, 1).standard_normal((6, 8), dtype=np.float32)
    expected = scale * torch.from_numpy(by_hand).double()
    torch.testing.assert_close(whole[1], expected, rtol=0, atol=1e-15)
    noise.remove()
    assert torch.equal(embedding(torch.arange(24).reshape(4, 6) % 12), bare)


def test_embedding_noise_disturbs_training_and_leaves_no_trace(tmp_path):
    model = model_of()
    start = run(tmp_path / "0", model=model, embedding_noise=0.5)
    assert not model.get_input_embeddings()._forward_hooks
    assert_same(start, run(tmp_path / "1", embedding_noise=0.5, micro_batch_size=3), 1e-10)
    other = run(tmp_path / "2")
    assert any((start[name] - other[name]).abs().max() > 1e-4 for name in start)
    with pytest.raises(ValueError, match="drawn example by example: leave out packing"):
        TrainingOptions(**{**OPTIONS, "embedding_noise": 0.1, "packing": True})
