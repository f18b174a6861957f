"""Small checkpoints as another program would leave them: random weights, no trace of a run."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ntpctp.data.cache import encode_task
from ntpctp.data.tasks import TASKS


def save_foreign(path: Path, task: dict, seed: int = 0, scale: float = 0.2, **config) -> Path:
    """Save a random GPT-2 with a tokenizer that covers ``task``; weights far from uniform."""
    tokenizer = encode_task(TASKS[task["name"]].model_validate(task), pieces_of(task)).tokenizer
    torch.manual_seed(seed)
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256, **config}
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            "gpt2",
            vocab_size=len(tokenizer),
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **settings,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def pieces_of(task: dict) -> str:
    return str(TASKS[task["name"]].pieces)
