"""``python -m ntpctp`` is the ``ntpctp`` command, which imports nothing from the current directory.

Python puts the current directory first on the module path of ``python -m``. It is removed before
anything else is imported, unless this package was found there: then its workers find it, too.
"""

import os
import sys


def _isolate() -> None:
    """Remove the current directory from the module path, or pass it on to the workers."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.flags.safe_path or not sys.path or os.path.abspath(sys.path[0]) != os.getcwd():
        return
    if os.path.realpath(checkout) != os.path.realpath(os.getcwd()):
        del sys.path[0]
        return
    others = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([checkout, *others])


if __name__ == "__main__":
    _isolate()
    from ntpctp.cli import main

    main()
