"""The base of every block of an experiment file, and blocks that a name chooses from a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Whether ``text`` is allowed as the name of a file or directory."""
    return _SAFE_NAME.fullmatch(text) is not None


def _safe_name(name: Any) -> Any:
    if isinstance(name, str) and not is_name(name):
        raise ValueError(
            "expected a name of letters, digits, '.', '_' and '-' that starts with a letter or "
            f"digit (it becomes a directory), found {name!r}"
        )
    return name


Name = Annotated[str, BeforeValidator(_safe_name)]
"""A name given by the user that becomes the name of a file or directory."""


def _compiles(pattern: Any) -> Any:
    try:
        if isinstance(pattern, str):
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


RegularExpression = Annotated[str, BeforeValidator(_compiles)]
"""A regular expression as Python's ``re`` reads it."""


class Options(BaseModel):
    """Typed, immutable settings; an unknown or ill-typed field is an error, never ignored.

    Subclasses document each field by ``Field(description=...)``, the one source of help and docs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __eq__(self, other: object) -> bool:
        # pydantic also compares the values of cached properties.
        return type(self) is type(other) and all(
            getattr(self, field) == getattr(other, field) for field in type(self).model_fields
        )

    def changed(self, *fields: str) -> list[str]:
        """Return those of ``fields`` whose value is not the default.

        Unlike pydantic's ``model_fields_set`` this is the same before and after a round trip
        through a file that states all defaults.
        """
        return [
            field
            for field in fields
            if getattr(self, field)
            != type(self).model_fields[field].get_default(call_default_factory=True)
        ]


@dataclass(frozen=True, eq=False)
class Choice:
    """Annotation of a field: the block's ``name`` selects its type from a table.

    ``objective: Annotated[Objective, Choice(OBJECTIVES)]`` reads ``objective: {name: ntp}``; the
    name alone, ``objective: ntp``, is the same block with all defaults.

    Attributes:
        table: name -> type; all types are subclasses of the annotated one.
    """

    table: Mapping[str, type[Options]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return handler.generate_schema(one_of(self.table))


def one_of(table: Mapping[str, type[Options]]) -> Any:
    """Return the type that ``Choice(table)`` validates, for a ``TypeAdapter``."""
    union: Any = Union[tuple(table.values())]  # noqa: UP007 (built from a table)
    chosen: Any = Annotated[union, Field(discriminator="name")]
    return Annotated[chosen, BeforeValidator(_block_of_name)]


def _block_of_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value
