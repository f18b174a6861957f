"""A Python function of the user that yields rows.

    # my_data.py
    def squares(count):
        for k in range(count):
            yield {"prompt": f"{k}*{k}=", "answer": str(k * k)}

    task: {name: python, function: "my_data:squares", arguments: {count: 1000}}

The current directory is searched for the module too. The function must yield the same rows at every
call, since all arms and seeds must use the same data.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.runtime import START_DIRECTORY
from ntpctp.data.tasks.files.own import OwnData, UserRow


class PythonFunction(OwnData):
    """Examples from ``module:function``; rows are counted from 1 in messages."""

    name: Literal["python"] = "python"
    function: str = Field(
        pattern=r"^[\w.]+:\w+$",
        description="module:function; it is called with the arguments and yields rows",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments for the training split"
    )
    test_arguments: dict[str, Any] | None = Field(
        None,
        description="keyword arguments for the test split; without them, a test split is held out",
    )

    @property
    def _test_option(self) -> str | None:
        return "test_arguments" if self.test_arguments is not None else None

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return None  # the function may depend on anything

    def _source(self, split: str) -> str:
        return self.function

    def _rows(self, split: str) -> Iterator[UserRow]:
        arguments = self.arguments if split == "train" else self.test_arguments or {}
        number = 0
        try:
            with _user_modules(re.split("[.:]", self.function)[0]):
                for row in self._load()(**arguments):
                    number += 1
                    where = f"{self.function}, row {number}"
                    if not isinstance(row, Mapping):
                        raise InputError(
                            f"{where}: expected a dict of fields, found {type(row).__name__} "
                            f"{str(row)[:80]}"
                        )
                    yield where, row
        except InputError:
            raise
        except Exception as error:  # the user's code may raise any error
            raise InputError(
                f"{self.function}: failed after {number} rows: {type(error).__name__}: {error}"
            ) from error

    def _load(self) -> Callable[..., Any]:
        module_name, _, name = self.function.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise InputError(
                f"function {self.function}: cannot import {module_name}: {error}. Start the "
                "command in the directory of the module, or install it"
            ) from error
        function = getattr(module, name, None)
        if not callable(function):
            raise InputError(
                f"function {self.function}: {module_name} has no function {name!r}"
                f"{nearest(name, vars(module))}"
            )
        return function  # type: ignore[no-any-return]


class _Finder:
    """Finds top-level modules in one directory: the one called ``name``, or any."""

    def __init__(self, directory: str, name: str | None = None):
        self._directory, self._name = directory, name

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if "." in name or self._name not in (None, name):
            return None
        spec = PathFinder.find_spec(name, [self._directory])
        # A folder without code does not take precedence over an installed package.
        return None if self._name and spec and spec.loader is None else spec


@contextmanager
def _user_modules(name: str) -> Iterator[None]:
    """Let the user's directory provide the module ``name``, and any that is found nowhere else.

    The directory is not put first on the module path: there it would also provide its ``queue.py``
    or ``datasets/`` to all other code.
    """
    directory = os.environ.get(START_DIRECTORY) or os.getcwd()
    first, last = _Finder(directory, name), _Finder(directory)
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    try:
        yield
    finally:
        sys.meta_path.remove(first)
        sys.meta_path.remove(last)
