"""Check that a change of the code changes no result: run four experiments, print their digests.

    python scripts/digests.py --write digests.json              before the change
    python scripts/digests.py --compare digests.json            after it, on the same machine

The experiments cover stages, a map, and packed chats with LoRA under ``selective`` and its
reference checkpoint; ``--quickstart`` adds ``recipes/quickstart.yaml``. Digested are the weights of
every checkpoint, ``scores.parquet`` without times, and ``comparison.json``. Digests are comparable
on one machine with one set of library versions only: floating-point sums depend on both.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
ADDITION = {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20}
MODEL = {"family": "gpt2", "layers": 1, "width": 16, "heads": 2}
TRAINING = {"steps": 8, "batch_size": 8, "learning_rate": 1e-2, "log_every": 2}
ARMS = {"ntp": {"objective": "ntp"}, "ctp": {"objective": "ctp"}}
MEASURES = [
    "accuracy",
    {"name": "robustness", "strengths": [0.0, 1.0], "draws": 2, "max_items": 10},
    {"name": "flatness", "max_items": 16},
]
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} <e> {% endfor %}"


def stages() -> dict[str, Any]:
    """Pretraining and finetuning under both objectives, with the loss between the arms."""
    return {
        "name": "stages",
        "tokenizer": "characters",
        "model": MODEL,
        "stages": {
            "pretrain": {"task": ADDITION, "training": TRAINING},
            "finetune": {
                "task": {"name": "modular", "modulus": 7, "train_fraction": 0.6},
                "training": {**TRAINING, "optimizer": "sgd"},
            },
        },
        "grid": {"pretrain.objective": ["ntp", "ctp"], "finetune.objective": ["ntp", "ctp"]},
        "seeds": 2,
        "evaluation": {"every": 4, "measures": MEASURES},
        "comparison": {"loss_path": {"points": 3}},
    }


def a_map() -> dict[str, Any]:
    """Four cells: data by width."""
    return {
        "name": "map",
        "task": {"name": "chain", "train_size": 60, "test_size": 20},
        "model": {"family": "llama", "layers": 1, "heads": 2},
        "training": {**TRAINING, "group_by_length": True},
        "arms": {**ARMS, "noisy": {"objective": {"name": "noisy", "rate": 0.2}}},
        "seeds": 3,
        "evaluation": {"every": 8, "measures": ["accuracy", "edits"]},
        "map": {"task.train_size": [40, 60], "model.width": [8, 16]},
    }


def chats(folder: Path, reference: Path | None) -> dict[str, Any]:
    """Packed chats: NTP alone to train the reference; with a reference, LoRA and ``selective``."""
    content = {
        "name": "reference" if reference is None else "chats",
        "task": {"name": "jsonl", "path": str(folder / "chats.jsonl"), "test_size": 10},
        "tokenizer": str(folder / "tokenizer"),
        "model": {**MODEL, "family": "llama"},
        "training": {**TRAINING, "packing": True},
        "arms": {"ntp": {"objective": "ntp"}},
        "seeds": [0],
        "evaluation": {"every": 4, "measures": ["accuracy"]},
    }
    if reference is not None:
        content["training"] = {**TRAINING, "packing": True, "lora": {"rank": 2, "dropout": 0.1}}
        content["arms"] = {
            **ARMS,
            "selective": {"objective": {"name": "selective", "reference": str(reference)}},
        }
        content["seeds"] = 2
    return content


def write_chats(folder: Path) -> None:
    """Write sixty small chats and a tokenizer with a chat template."""
    rows = []
    for k in range(60):
        turns = [("user", f"{k % 7} plus {k % 5}"), ("assistant", f"{k % 7 + k % 5}")]
        if k % 3 == 0:
            turns += [("user", f"minus {k % 4}"), ("assistant", f"{k % 7 + k % 5 - k % 4} left")]
        rows.append({"messages": [{"role": r, "content": c} for r, c in turns]})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "chats.jsonl").write_text(text, "utf-8")
    words = ["<pad>", "<unk>", "<e>", "user", "assistant", "plus", "minus", "left", "-", "."]
    vocabulary = {word: k for k, word in enumerate([*words, *map(str, range(-10, 30))])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<e>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "tokenizer")


def run(content: dict[str, Any] | Path, folder: Path) -> Path:
    """Run an experiment with the installed version; return its directory."""
    if isinstance(content, dict):
        file = folder / f"{content['name']}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    else:
        file = content
    output = folder / "runs" / file.stem
    command = [sys.executable, "-m", "ntpctp", "run", str(file), "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return output


def digests_of(output: Path) -> dict[str, str]:
    """Return file -> SHA-256 of its content without times, for all results below ``output``."""
    digests = {}
    for path in sorted(output.rglob("*")):
        name = f"{output.name}/{path.relative_to(output).as_posix()}"
        if path.name in ("model.safetensors", "adapter_model.safetensors"):
            content = path.read_bytes()
        elif path.name == "scores.parquet":
            frame = pd.read_parquet(path)
            timed = [c for c in frame.columns if "second" in c or "time" in c]
            frame = frame.drop(columns=timed)
            measured = frame["unit"].astype(str).str.contains("second") | frame[
                "score"
            ].str.contains("second|time")
            content = frame[~measured].to_json(double_precision=15).encode()
        elif path.name in ("comparison.json", "loss-paths.json"):
            record = json.loads(path.read_text("utf-8"))
            record.pop("checksum", None)
            for row in record.get("rows", ()):
                row.pop("key", None)  # depends on whole checkpoints, whose logs contain times
            content = json.dumps(record, sort_keys=True).encode()
        else:
            continue
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def main() -> None:
    """Run all experiments, then write or compare the digests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument(
        "--quickstart", action="store_true", help="also run the quickstart, for some minutes"
    )
    parser.add_argument("--folder", type=Path, help="directory of the runs; by default temporary")
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="digests-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_chats(folder)
    digests = digests_of(run(stages(), folder)) | digests_of(run(a_map(), folder))
    reference = run(chats(folder, None), folder) / "ntp/seed-0/train/step-000008"
    digests |= digests_of(run(chats(folder, reference), folder))
    if arguments.quickstart:
        digests |= digests_of(run(ROOT / "recipes" / "quickstart.yaml", folder))
    if arguments.write:
        arguments.write.write_text(json.dumps(digests, indent=1) + "\n", "utf-8")
    elif arguments.compare:
        stored = json.loads(arguments.compare.read_text("utf-8"))
        if not arguments.quickstart:
            stored = {k: v for k, v in stored.items() if not k.startswith("quickstart/")}
        different = sorted(
            name for name in stored | digests if stored.get(name) != digests.get(name)
        )
        print(f"{len(digests)} digests, {len(different)} different")
        raise SystemExit("\n".join(different))
    else:
        print(json.dumps(digests, indent=1))


if __name__ == "__main__":
    main()
