"""No bytes and no settings bring anything out of a reader but acceptance or a clear refusal.

``scripts/bench/fuzz.py`` does the same for as long as one likes.
"""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ntpctp._core.errors import InputError
from tests.fuzz.mutations import changed, damaged
from tests.fuzz.readers import CONTENTS, readers, settle

READERS = readers()
BOUNDED = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.slow
def test_bytes(name):
    reader = READERS[name]

    @settings(**BOUNDED, max_examples=max(10, 120 // reader.cost))
    @given(damaged(reader.good))
    def only_clear_refusals(content):
        with tempfile.TemporaryDirectory() as directory, contextlib.suppress(InputError):
            reader.read(Path(directory), content)

    only_clear_refusals()


@pytest.mark.parametrize("name", READERS)
def test_what_is_good_is_accepted(name, tmp_path):
    for number, content in enumerate(READERS[name].good):
        (tmp_path / str(number)).mkdir()
        READERS[name].read(tmp_path / str(number), content)


@settings(**BOUNDED, max_examples=200)
@given(st.data())
def test_settings(data):
    with contextlib.suppress(InputError):
        settle(data.draw(changed(CONTENTS)))
