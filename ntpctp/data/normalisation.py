"""Rules for comparing two answers; a task names those that apply to both.

    case        "True" = "true"
    full_stop   "Paris." = "Paris"; one full stop at the end
    number      "1,234.50" = "1234.50"; thousands separators, if the whole answer is a number
    space       "a  b" = "a b"; any white space between words

Leading and trailing white space is always ignored. No rule changes zeros (``007`` is not ``7``) or
numbers within other text.
"""

import re
from collections.abc import Callable, Collection
from typing import Literal

Rule = Literal["case", "full_stop", "number", "space"]

_SEPARATED = re.compile(r"([-+]?)(\d{1,3}(?:,\d{3})+)(\.\d+)?")


def _number(answer: str) -> str:
    match = _SEPARATED.fullmatch(answer)
    return match[1] + match[2].replace(",", "") + (match[3] or "") if match else answer


# In the order of application: full_stop before number, which matches whole numbers only.
_RULES: dict[Rule, Callable[[str], str]] = {
    "space": lambda answer: " ".join(answer.split()),
    "full_stop": lambda answer: answer.removesuffix(".").rstrip(),
    "case": str.casefold,
    "number": _number,
}


def normalised(answer: str, rules: Collection[Rule]) -> str:
    """Return ``answer`` after ``rules``, without leading and trailing white space.

    >>> normalised(" 1,234.", ["number", "full_stop"])
    '1234'
    """
    answer = answer.strip()
    for rule, apply in _RULES.items():
        if rule in rules:
            answer = apply(answer)
    return answer
