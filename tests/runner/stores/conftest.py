"""Stores to try: a directory, memory, and an S3 server on this machine; and checkpoints."""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer

from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.models import checkpoint_state
from ntpctp.models.build import build_model
from ntpctp.models.checkpoints import Progress
from ntpctp.models.options import ModelOptions
from ntpctp.runner.stores import Store, retry


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def fail_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture
def s3(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a directory in a bucket of its own; endpoint and credentials by environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-such-file"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-such-file"),
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/runs/addition"


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest) -> str:
    """One store of each kind: renaming is atomic, nothing is, every PUT is."""
    return _of_kind(request)


@pytest.fixture(params=["file", "memory"])
def fast_url(request: pytest.FixtureRequest) -> str:
    """Of the kinds that take no time, for what does not depend on the kind."""
    return _of_kind(request)


def _of_kind(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    found: str = request.getfixturevalue("directory" if request.param == "file" else "s3")
    return found


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is asked of S3, counted."""
    counted: Counter[str] = Counter()
    call = s3fs.S3FileSystem._call_s3

    async def counting(self, method, *arguments, **named):
        counted[method] += 1
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counting)
    return counted


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny GPT-2, with its optimizer."""
    tokenizer = closed_tokenizer(["0123456789"], "characters")
    model = build_model(
        ModelOptions(family="gpt2", layers=1, width=8, heads=2), tokenizer, 8, seed=0
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss.backward()
    optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "step-000002"
    checkpoint_state.save(
        path, checkpoint_state.snapshot(model, optimizer), tokenizer, Progress(2, 6, 4)
    )
    return path


@pytest.fixture
def hosts(tmp_path: Path) -> Callable[..., Store]:
    """Make a store with a working copy of its own, as another machine has it."""

    def make(url: str, name: str = "", **options) -> Store:
        return Store(url, tmp_path / "hosts" / (name or uuid.uuid4().hex), **options)

    return make
