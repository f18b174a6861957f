"""Names, relations and sentences of Kinship, and the compositions of two relations."""

from collections.abc import Sequence

# fmt: off
MEN = (
    "Adam", "Ben", "Carl", "Dan", "Ed", "Fred", "Gus", "Hal", "Ian", "Jim", "Karl", "Leo", "Max",
    "Ned", "Otto", "Paul", "Ray", "Sean", "Ted", "Walt",
)
WOMEN = (
    "Amy", "Beth", "Cora", "Dora", "Ella", "Fay", "Gina", "Hope", "Ida", "June", "Kate", "Lily",
    "Mary", "Nora", "Olga", "Pia", "Rose", "Sue", "Tina", "Vera",
)
# relation -> (word for a man, word for a woman)
WORDS = {
    "child": ("son", "daughter"), "parent": ("father", "mother"),
    "spouse": ("husband", "wife"), "sibling": ("brother", "sister"),
    "grandchild": ("grandson", "granddaughter"), "grandparent": ("grandfather", "grandmother"),
    "parent's sibling": ("uncle", "aunt"), "sibling's child": ("nephew", "niece"),
    "child's spouse": ("son-in-law", "daughter-in-law"),
    "spouse's parent": ("father-in-law", "mother-in-law"),
}
# (relation of M to A, relation of B to M) -> relation of B to A, if it is certain and has a word.
COMPOSED = {
    ("child", "child"): "grandchild", ("child", "spouse"): "child's spouse",
    ("child", "sibling"): "child", ("parent", "parent"): "grandparent",
    ("parent", "sibling"): "parent's sibling", ("parent", "child"): "sibling",
    ("parent", "spouse"): "parent", ("parent", "spouse's parent"): "grandparent",
    ("spouse", "child"): "child", ("spouse", "parent"): "spouse's parent",
    ("spouse", "grandchild"): "grandchild", ("spouse", "child's spouse"): "child's spouse",
    ("sibling", "sibling"): "sibling", ("sibling", "parent"): "parent",
    ("sibling", "child"): "sibling's child", ("sibling", "grandparent"): "grandparent",
    ("sibling", "parent's sibling"): "parent's sibling", ("grandchild", "sibling"): "grandchild",
    ("grandparent", "spouse"): "grandparent", ("parent's sibling", "parent"): "grandparent",
    ("sibling's child", "sibling"): "sibling's child", ("child's spouse", "child"): "grandchild",
    ("spouse's parent", "spouse"): "spouse's parent",
}
# fmt: on
MANIFOLD = (
    "child",
    "sibling",
    "grandchild",
    "sibling's child",
)  # one may have several


def wordings(of: str, relation: str, relative: str, is_woman: bool) -> Sequence[str]:
    """Return the two wordings of "``relative`` is the ``relation`` of ``of``"."""
    word = WORDS[relation][is_woman]
    return (
        f"{relative} is the {word} of {of}.",
        f"{of} has {'an' if word[0] in 'au' else 'a'} {word} called {relative}.",
    )
