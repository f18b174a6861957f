"""Stores: the permanent record of an experiment, under any URL of fsspec.

Programs work on a *working copy*, an ordinary local directory. ``push`` uploads its new files to a
*store* (``s3://bucket/path``, ``gs://``, ``file://``, ...), ``pull`` downloads complete results.
Machines that work on one experiment share nothing else.

Uploads keep the order that makes local writes atomic: all files of a checkpoint, then its
``manifest.json``; the items of a measure, then its scores. A reader accepts a checkpoint only if
every file agrees with the size and SHA-256 in the manifest.
"""

from ntpctp.runner.stores.store import Store
from ntpctp.runner.stores.urls import working_copy

__all__ = ["Store", "working_copy"]
