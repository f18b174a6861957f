"""The problem of ``flatness.py``: a trained model, four uneven batches, and its true eigenvalue."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY, ROWS, TOKENS, SUPERVISED = 256, 4, 32, (1, 1, 24, 24)
SIZES = {"0.07M": (48, 2), "0.1M": (48, 3), "1M": (144, 4), "10M": (400, 5)}  # width, layers


class Problem:
    """A trained model, its batches, and the summed loss of each."""

    def __init__(self, width: int, layers: int):
        self.config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=64,
            n_embd=width,
            n_layer=layers,
            n_head=4,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.config._attn_implementation = "eager"
        torch.manual_seed(0)
        self.model = GPT2LMHeadModel(self.config).eval()
        generator = torch.Generator().manual_seed(1)
        self.batches = []
        for count in SUPERVISED:
            tokens = torch.randint(1, VOCABULARY, (ROWS, TOKENS), generator=generator)
            self.batches.append((tokens, count))
        self.weight = ROWS * sum(SUPERVISED)
        optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3)
        for _ in range(60):
            for batch in self.batches:
                loss_sum, weight = self.loss(batch)
                (loss_sum / weight).backward()
                optimizer.step()
                optimizer.zero_grad()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Name -> parameter, the argument of every operator."""
        return dict(self.model.named_parameters())

    def loss(self, batch: tuple[Tensor, int]) -> tuple[Tensor, Tensor]:
        """Return summed loss and number of supervised tokens, the last ones of each row."""
        tokens, count = batch
        hidden = self.model.transformer(tokens).last_hidden_state[:, -count - 1 : -1]
        logits = self.model.lm_head(hidden)
        targets = tokens[:, -count:]
        loss_sum = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        return loss_sum, torch.tensor(targets.numel())

    def share(self, batch: tuple[Tensor, int]) -> Tensor:
        """Return the loss whose plain mean over batches is the mean loss over all tokens."""
        return self.loss(batch)[0] * len(self.batches) / self.weight

    def reference(self) -> float:
        """Return the largest eigenvalue in float64, by ARPACK to 1e-8, independent of our code."""
        state = self.model.state_dict()
        self.model = GPT2LMHeadModel(self.config).eval().double()
        self.model.load_state_dict(state)
        tensors = list(self.model.parameters())
        size = sum(tensor.numel() for tensor in tensors)

        def product(entries: np.ndarray) -> np.ndarray:
            pieces, begin = [], 0
            for tensor in tensors:
                piece = entries.reshape(-1)[begin : begin + tensor.numel()]
                pieces.append(torch.from_numpy(piece.copy()).view_as(tensor))
                begin += tensor.numel()
            total = np.zeros(size)
            for batch in self.batches:
                gradient = torch.autograd.grad(self.loss(batch)[0], tensors, create_graph=True)
                columns = torch.autograd.grad(gradient, tensors, pieces)
                total += torch.cat([column.flatten() for column in columns]).numpy()
            return total / self.weight

        start = np.random.default_rng(0).standard_normal(size)
        operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
        values = eigsh(operator, 1, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)
        self.model = GPT2LMHeadModel(self.config).eval()
        self.model.load_state_dict(state)
        return float(values[0])
