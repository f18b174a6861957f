"""ntpctp: which tokens should the loss see? A fair comparison of training objectives.

Importing this package loads no torch: public names are imported on first use.
"""

_PUBLIC: dict[str, str] = {}
"""Public name -> the module that defines it."""

__all__ = ["__version__", *_PUBLIC]

__version__: str


def __getattr__(name: str) -> object:
    # Nothing is imported at the top: `python -m ntpctp` runs this file before it removes the
    # current directory from the module path.
    if name == "__version__":
        from importlib.metadata import version

        return version("ntpctp")
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ntpctp' has no attribute {name!r}")
