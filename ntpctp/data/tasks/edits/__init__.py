"""Edits of examples whose right answer stays known: robustness is measured with them."""
