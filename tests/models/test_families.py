"""known_families against the tables of transformers, read from its source and registered."""

import sys

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from ntpctp.models.families import known_families


def test_families_in_the_source_are_those_of_transformers(monkeypatch):
    monkeypatch.delitem(sys.modules, "transformers")
    known = known_families()
    assert "gpt2" in known and len(known) > 300
    assert known <= set(CONFIG_MAPPING)
    assert set(CONFIG_MAPPING) - set(CONFIG_MAPPING._extra_content) <= known


def test_registered_families_are_known(monkeypatch):
    class Own(PretrainedConfig):
        model_type = "a-family-of-its-own"

    monkeypatch.setattr(CONFIG_MAPPING, "_extra_content", {})
    AutoConfig.register("a-family-of-its-own", Own)
    assert "a-family-of-its-own" in known_families()
