"""The tutorial, followed to the letter but for the numbers of steps and seeds."""

import re
import runpy
import shlex

import pandas as pd
import pytest

from tests.docs.documents import ROOT, blocks_of, commands_of

PAGE = ROOT / "docs/tutorial.md"
# What a reader waits for, and what the tests do in its place.
SHORTER = {
    r"\bsteps: 200\b": "steps: 4",
    r"training\.steps: \[200, 600\]": "training.steps: [2, 4]",
    r"warmup_steps: 20\b": "warmup_steps: 1",
    r"\bevery: (50|100)\b": "every: 2",
    r"seeds: (3|5)\b": "seeds: 1",
    r"\bseeds=5\b": "seeds=2",
    r"\b(ntp|ctp)-600\b": r"\1-4",
    r"\bstep-000600\b": "step-000004",
}


def shortened(text):
    for long, short in SHORTER.items():
        text = re.sub(long, short, text)
    return text


@pytest.mark.slow
def test_every_command_of_the_tutorial_does_what_it_says(tmp_path, monkeypatch, ntpctp):
    monkeypatch.chdir(tmp_path)
    whole = PAGE.read_text()
    assert [long for long in SHORTER if not re.search(long, whole)] == []
    printed, written = {}, []
    for block in blocks_of(PAGE):
        if block.file:
            (tmp_path / block.file).write_text(shortened(block.text))
        if block.language != "sh":
            continue
        for command in commands_of(shortened(block.text)):
            program, *words = shlex.split(command)
            if program == "python":
                runpy.run_path(words[0], run_name="__main__")
                continue
            assert program == "ntpctp", f"{block.where}: {command}"
            outcome = ntpctp(*words)
            assert outcome.code == 0, f"{block.where}: {command}: {outcome.err}"
            printed[command] = outcome.out
            weights = tmp_path / "runs/swap/ntp/seed-0/train/step-000004/model.safetensors"
            written += [weights.stat().st_mtime_ns] if weights.exists() else []

    rows = (tmp_path / "swap.jsonl").read_text().splitlines()
    assert len(rows) == 56
    for block in blocks_of(PAGE):
        if block.language == "json":
            assert block.text.splitlines() == rows[:2]  # the page shows the first lines

    shown = next(block.text for block in blocks_of(PAGE) if block.text.startswith("ntp  swap["))
    audit = printed["ntpctp audit swap.yaml --examples 1"]
    assert audit.split() == shown.split()

    assert len(written) > 1 and len(set(written)) == 1  # seeds that are there are kept
    scores = pd.read_parquet(tmp_path / "runs/swap/scores.parquet")
    assert set(scores["measure"]) == {"accuracy", "robustness", "learning"}
    assert set(scores[scores["measure"] == "robustness"]["seed"]) == {0, 1}

    evaluated = next(out for command, out in printed.items() if "evaluate" in command)
    assert re.search(r"ntp-4, seed 0, step-000004, same: test exact_match = .* 8 items", evaluated)
    for name in ("swap", "swap-budget"):
        assert (tmp_path / f"runs/{name}/report.html").is_file()
