"""Words for messages: counts with their nouns, lists, dotted names of nested fields."""

from collections.abc import Iterable, Mapping


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "seed"), plural(5, "seed")
    ('1 seed', '5 seeds')
    """
    return f"{grouped(count)} {noun}{'' if count == 1 else 's'}"


def grouped(count: int) -> str:
    """Return a whole number with a narrow space between thousands."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def listed(words: Iterable[str]) -> str:
    """Return words as an enumeration in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def flat(block: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the fields of nested blocks under their dotted names.

    >>> flat({"training": {"steps": 5}, "seeds": [0, 1]})
    {'training.steps': 5, 'seeds': [0, 1]}
    """
    fields: dict[str, object] = {}
    for name, inner in block.items():
        if isinstance(inner, Mapping) and inner:
            fields |= flat(inner, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = inner
    return fields
