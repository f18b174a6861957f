"""The families of models that the installed ``transformers`` offers, known without importing it.

Importing ``transformers`` with its configurations loads torch and costs about 2 CPU seconds;
a mistyped family in an experiment file should not.
"""

import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_MODULES = ("auto_mappings.py", "configuration_auto.py")
_ENTRY = re.compile(r"""["']([\w.-]+)["']\s*[,:]\s*["'](?!AutoConfig)\w+Config["']""")


def known_families() -> frozenset[str]:
    """Return the names that ``AutoConfig.for_model`` accepts.

    Read from the source of the installed version. Where ``transformers`` is loaded already, also
    the families that other code has registered.
    """
    if "transformers" in sys.modules or not _in_source():
        from transformers import CONFIG_MAPPING

        return frozenset(CONFIG_MAPPING)
    return _in_source()


@cache
def _in_source() -> frozenset[str]:
    """Return the names in the tables of ``transformers.models.auto``; empty if there are none."""
    spec = find_spec("transformers")
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(f) / "models" / "auto" / name for f in folders or () for name in _MODULES]
    texts = [path.read_text("utf-8") for path in paths if path.is_file()]
    return frozenset(name for text in texts for name in _ENTRY.findall(text))
