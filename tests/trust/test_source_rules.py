"""What no line of the program does: open a pickle, run text as code, trust a checkpoint's code."""

import ast
from pathlib import Path

import pytest
import yaml

from ntpctp._core import yaml_loader
from ntpctp.data import lm_eval_export
from ntpctp.runner import summary

ROOT = Path(__file__).parents[2]
SAFE_LOADERS = {"_SafeLoader": summary._SafeLoader, "_Loader": yaml_loader._Loader}
FORBIDDEN = {
    "eval", "exec", "__import__", "compile",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads",
    "dill.load", "dill.loads", "joblib.load", "marshal.loads", "shelve.open",
    "torch.load", "torch.hub.load", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle",
    "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "os.system", "os.popen",
}  # fmt: skip


def broken_rules(source: str) -> list[str]:
    """Return what a module does that none may do, each with its line."""
    return [f"{node.lineno}: {rule}" for node, rule in _broken(ast.parse(source))]


def _broken(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                if f"{node.module}.{name.name}" in FORBIDDEN:
                    yield node, f"imports {node.module}.{name.name}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called in FORBIDDEN:
            yield node, called
        if called == "yaml.load":
            loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader")
            if loader not in SAFE_LOADERS:
                yield node, f"yaml.load with {loader}"
        if called.endswith(".from_pretrained"):
            if given.get("trust_remote_code") != "False":
                yield node, "from_pretrained without trust_remote_code=False"
            if "Model" in called and given.get("use_safetensors") != "True":
                yield node, "from_pretrained without use_safetensors=True"
        for word, allowed in {
            "shell": "False", "allow_pickle": "False", "trust_remote_code": "False",
            "weights_only": "True", "use_safetensors": "True", "autoescape": "True",
        }.items():  # fmt: skip
            if given.get(word, allowed) != allowed:
                yield node, f"{word}={given[word]}"


def test_no_module_opens_a_pickle_runs_text_or_trusts_a_checkpoint():
    files = sorted((ROOT / "ntpctp").rglob("*.py"))
    files += sorted((ROOT / "recipes").rglob("*.py"))
    # Benchmarks are not of the program: peers may want what is not wanted here.
    files += [p for p in (ROOT / "evaluation").rglob("*.py") if "lm_eval_tasks" not in p.parts]
    assert len(files) > 200
    found = {
        path.relative_to(ROOT).as_posix(): rules
        for path in files
        if (rules := broken_rules(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)", "pickle.loads(text)", "torch.load(path)", "from torch import load",
        "from pickle import loads", "pd.read_pickle(path)", "np.load(path)", "eval(text)",
        "exec(text)", "yaml.load(text)", "yaml.load(text, yaml.UnsafeLoader)",
        "yaml.load(text, Loader=yaml.Loader)", "yaml.unsafe_load(text)",
        "subprocess.run(text, shell=True)", "read(path, allow_pickle=True)",
        "AutoConfig.from_pretrained(path)", "AutoTokenizer.from_pretrained(path, "
        "trust_remote_code=True)", "AutoModel.from_pretrained(path, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=options.trust)",
        "load_dataset(path, trust_remote_code=True)", "Environment(autoescape=False)",
    ],
)  # fmt: skip
def test_each_rule_is_noticed_when_it_is_broken(line):
    assert broken_rules(line) != []


def test_the_loaders_and_the_dumper_of_yaml_are_safe_ones():
    safe = (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert all(issubclass(loader, safe) for loader in SAFE_LOADERS.values())
    assert issubclass(lm_eval_export._Dumper, yaml.SafeDumper)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch ran']", "!!python/none"])
def test_a_tag_of_python_in_an_experiment_file_is_no_more_than_an_error(
    ntpctp, tmp_path, tag, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "experiment.yaml"
    file.write_text(f"name: {tag}\n")
    for command in (["run", file], ["status", tmp_path], ["compare", tmp_path]):
        outcome = ntpctp(*command)
        assert outcome.code == 2 and "error" in outcome.err
    assert not (tmp_path / "ran").exists()
