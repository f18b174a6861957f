"""How commands want the libraries to behave: no bars of their own, no nested threads."""

import os
import sys


def quiet_libraries() -> None:
    """Switch off progress bars and thread pools that would disturb our own.

    Costs nothing where no library is imported yet: what is set in the environment holds for them.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()
