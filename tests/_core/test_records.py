"""Records with a checksum: nothing but what was written is ever read."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpctp._core.errors import InputError
from ntpctp._core.records import read_sealed, write_sealed

CONTENT = {
    "arms": {"ntp": [0, 0.1, -1e-300, 1e300], "ctp": {10: None, 9: True, "b": "\u00e4\u2028"}},
    "rows": ({"seed": 3}, []),
}
AS_READ = {
    "arms": {"ntp": [0, 0.1, -1e-300, 1e300], "ctp": {"10": None, "9": True, "b": "\u00e4\u2028"}},
    "rows": [{"seed": 3}, []],
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("indent", [None, 2])
def test_what_was_written_is_read(tmp_path, indent):
    write_sealed(tmp_path / "a.json", CONTENT, indent=indent)
    assert read_sealed(tmp_path / "a.json", "") == AS_READ
    text = (tmp_path / "a.json").read_text()
    assert text.startswith("{" if indent else '{"checksum"') and text.endswith("}\n")
    assert json.loads((tmp_path / "a.json").read_text()).keys() == {*CONTENT, "checksum"}


@settings(deadline=None)
@given(content=st.dictionaries(st.text(min_size=9), VALUES))
@pytest.mark.slow
def test_any_record_is_read_as_it_was_written(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    content = json.loads(json.dumps(content).replace("Infinity", "1.5"))
    write_sealed(path, content)
    assert read_sealed(path, "") == content


def test_every_flipped_bit_and_every_end_is_seen(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    for place, bit in np.ndindex(len(whole), 8):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        damaged.append(bytes(changed))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.json.*; do this$"):
            read_sealed(path, "do this")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "{}", '{"checksum": null}', "\xff"])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, "latin-1")
    with pytest.raises(InputError, match=r"a\.json.*; do this"):
        read_sealed(tmp_path / "a.json", "do this")
