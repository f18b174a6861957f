"""Stores: the record of an experiment that outlives every machine, under any URL of fsspec.

The program works on a *working copy*, an ordinary local directory. A *store* (``s3://bucket/path``,
``gs://``, ``file://``, ...) gets what is new there by ``push`` and gives what is whole by ``pull``.
Machines that work on one experiment share nothing else.

What is atomic here is so there: all files of a checkpoint are uploaded and verified before its
``manifest.json``, the rows of a measure before its scores. A reader takes a checkpoint only if
``manifest.json`` is there and every file agrees with it.
"""

from ntpctp.runner.stores.store import Store
from ntpctp.runner.stores.urls import working_copy

__all__ = ["Store", "working_copy"]
