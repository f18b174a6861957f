"""ntpctp: which tokens should the loss see? Fair comparison of training objectives."""

from importlib.metadata import version

__version__ = version("ntpctp")
