"""What validates an experiment file loads neither torch nor the libraries built on it."""

import subprocess
import sys

LIGHT = ("ntpctp.objectives", "ntpctp.models.options", "ntpctp.training")
HEAVY = ("torch", "transformers", "accelerate")


def test_options_load_no_torch():
    code = (
        f"import sys, {', '.join(LIGHT)}\n"
        "from ntpctp.models.options import ModelOptions\n"
        "ModelOptions(family='gpt2')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
