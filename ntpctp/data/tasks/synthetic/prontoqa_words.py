"""The words of PrOntoQA, and the three wordings of its rules."""

from collections.abc import Sequence
from dataclasses import dataclass

# fmt: off
PROPERTIES = (
    "aged", "angry", "bitter", "blue", "bright", "calm", "cold", "dry", "dull", "fast", "floral",
    "furry", "green", "happy", "heavy", "hot", "kind", "large", "light", "liquid", "loud", "mean",
    "metallic", "muffled", "opaque", "red", "rough", "round", "shy", "slow", "small", "smooth",
    "sour", "spicy", "sweet", "tall", "warm", "wet", "wooden", "young",
)
# None of these is in KINDS; the split ood_words is made of them.
OTHER_KINDS = tuple(f"{stem}pus" for stem in (
    "bal", "bil", "bul", "clim", "crom", "dal", "dil", "dral", "drim", "fal", "flim", "flom",
    "gal", "glum", "gral", "hom", "jal", "jum", "kam", "kil", "lal", "lum", "mal", "mor", "nal",
    "nem", "nil", "plom", "pral", "rum", "sal", "skim", "slor", "sum", "tal", "trom", "val", "zal",
))
REAL_KINDS = (
    "actor", "animal", "apple", "baker", "bird", "book", "bridge", "brother", "camera", "car",
    "cat", "chair", "cloud", "cook", "doctor", "dog", "driver", "flower", "garden", "hammer",
    "horse", "island", "king", "lake", "lamp", "lawyer", "mountain", "number", "orange", "painter",
    "piano", "pilot", "planet", "river", "sailor", "singer", "table", "tree",
)
OTHER_REAL_KINDS = (
    "anchor", "arrow", "bell", "boat", "bottle", "bowl", "button", "candle", "castle", "clock",
    "coat", "crown", "drum", "eagle", "farmer", "fiddle", "forest", "guitar", "hotel", "insect",
    "kettle", "ladder", "lion", "mirror", "monkey", "needle", "parrot", "pencil", "pillow",
    "pirate", "rabbit", "ribbon", "school", "shovel", "spoon", "ticket", "tiger", "violin",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class OntologyRule:
    """Every ``subject`` is (``negated``: is not) a ``kind``, or is ``adjective``."""

    subject: str
    kind: str = ""
    adjective: str = ""
    negated: bool = False


def with_article(noun: str) -> str:
    """Return ``noun`` with its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def plural(noun: str) -> str:
    """Return the plural of a noun of this task."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def predicate(rule: OntologyRule) -> str:
    """Return the predicate of a rule, for a single subject."""
    return f"is {'not ' if rule.negated else ''}{rule.adjective or with_article(rule.kind)}"


def wordings(rule: OntologyRule) -> Sequence[str]:
    """Return the three wordings of the original, always in the same order."""
    what = rule.adjective or plural(rule.kind)
    return (
        f"Every {rule.subject} {predicate(rule)}.",
        f"Each {rule.subject} {predicate(rule)}.",
        f"{plural(rule.subject).capitalize()} are {'not ' if rule.negated else ''}{what}.",
    )
