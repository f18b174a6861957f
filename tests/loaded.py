"""Imported by the fork server of the tests: what every training computes first, computed once."""

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

# transformers compiles a thousand patterns before it saves its first model.
get_checkpoint_conversion_mapping("gpt2")
