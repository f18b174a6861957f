"""What inputs are made of: good ones with damage, and noise."""

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

# Pieces that readers have stumbled over, here or elsewhere.
PIECES = (
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\r\n",
        b"\r",
        b"\x85",
        b"\t",
    ),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b",", b":", b"\n", b"-", b"- ", b"? ", b"#", b"|", b">"),
    *(b"&a ", b"*a", b"<<: ", b"!!", b"!!int ", b"!!float ", b"!!bool ", b"!!binary ", b"!!set "),
    *(b"!!python/object/apply:os.getcwd []", b"!!timestamp ", b"!!omap ", b"!!null ", b"---\n"),
    *(b"NaN", b"Infinity", b"-Infinity", b".nan", b"1e999", b"-1", b"0x_", b"0b", b"1:99", b"1_0"),
    *(b"9" * 5000, b"[" * 2000, b"{a: " * 500, b"(" * 300, b"2024-13-45", b"null", b"true", b"~"),
    *(
        b"\\ud800",
        b"\\u0000",
        b"\\",
        "\U0001f600".encode(),
        "\u202eabc".encode(),
        b"<eos>",
        b"<unk>",
    ),
    *(b"..", b"/", b"a.b", b"{seed}", b"name", b"stages: {}", b"map: {}", b"grid: {}", b"arms: {}"),
)


@st.composite
def damaged(draw: st.DrawFn, good: Sequence[bytes]) -> bytes:
    """A good input with up to six places damaged; sometimes noise alone."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    content = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 5, 20, 100])))
        match draw(st.integers(0, 5)):
            case 0:
                middle = draw(st.sampled_from(PIECES))
            case 1:
                middle = draw(st.binary(max_size=4))
            case 2:
                middle = content[start:end] * 2
            case 3:
                other = draw(st.sampled_from(good))
                at = draw(st.integers(0, len(other)))
                middle = other[at : at + 40]
            case 4:
                middle = bytes(byte ^ (1 << draw(st.integers(0, 7))) for byte in content[start:end])
            case _:
                middle, end = b"", draw(st.sampled_from([end, len(content)]))
        content = content[:start] + middle + content[end:]
    return content


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.sampled_from([10**20, -(10**20), 2**63, 2**31])
    | st.floats()
    | st.sampled_from(["", "ntp", "last", "log", "name", "characters", "all", "addition", "gpt2"])
    | st.text(max_size=5).filter(lambda text: text.isprintable())
    | st.dates()
    | st.binary(max_size=3)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "a", "steps", "task", "objective", 1]), inner)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, good: Sequence[Any]) -> Any:
    """A good content, as YAML gives it, in which up to four values or names are others."""
    content = copy.deepcopy(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(content))
        block, key = draw(st.sampled_from(places))
        match draw(st.integers(0, 3)) if isinstance(block, dict) else 0:
            case 0:
                block[key] = draw(VALUES)
            case 1:
                del block[key]
            case 2:
                block[draw(st.text(max_size=3) | st.integers(0, 2))] = block.pop(key)
            case _:
                other, from_key = draw(st.sampled_from(places))
                if from_key in other if isinstance(other, dict) else from_key < len(other):
                    block[key] = copy.deepcopy(other[from_key])
        if not content:
            break
    return content


def _places(value: Any) -> Any:
    """Yield every block or list with each of its keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
