"""Options of measures are read without the libraries that measure."""

import subprocess
import sys

HEAVY = ("torch", "transformers", "accelerate", "datasets", "scipy")


def test_importing_measures_loads_no_torch():
    code = (
        "import sys; from ntpctp.measures import MEASURES; "
        "[measure(**{'name': name}) for name, measure in MEASURES.items()]; "
        f"print(len(MEASURES), *(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "10\n"
