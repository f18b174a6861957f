"""How commands want the libraries to behave: no bars of their own, no nested threads."""

import os

from transformers.utils import logging


def quiet_libraries() -> None:
    """Switch off progress bars and thread pools that would disturb our own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable_progress_bar()
