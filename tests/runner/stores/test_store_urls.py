"""URLs, working copies and versions of files."""

import datetime
import getpass

import pytest

from ntpctp._core.errors import InputError
from ntpctp._core.layout import is_url
from ntpctp.runner.stores import Store, working_copy
from ntpctp.runner.stores.journal import version_of


@pytest.mark.parametrize("text", ["s3://a/b", "file:///a", "memory://a", "GS://a", "a::s3://b"])
def test_urls_are_told_from_paths(text):
    assert is_url(text)


@pytest.mark.parametrize("text", ["runs/a", "/runs", "C:\\runs", "s3:/a", "", "://a", "a b://c"])
def test_paths_are_told_from_urls(text):
    assert not is_url(text)
    with pytest.raises(InputError, match=r"expected a URL such as s3://bucket/path, found no"):
        Store(text)


def test_the_working_copy_depends_on_the_url_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path))
    copy = working_copy("s3://bucket/runs/addition 1")
    assert copy.parent == tmp_path and copy.name.endswith("-addition-1") and not copy.exists()
    assert Store("S3://bucket/runs/addition 1//").copy == copy
    others = ["s3://bucket/run/addition 1", "gs://bucket/runs/addition 1", "s3://b/addition 1"]
    assert len({copy, *map(working_copy, others)}) == 4
    assert Store("s3://a", tmp_path / "b").copy == tmp_path / "b"


def test_the_working_copy_does_not_depend_on_a_password(monkeypatch):
    monkeypatch.delenv("NTPCTP_SCRATCH", raising=False)
    copies = {working_copy(f"sftp://me:{word}@host/runs?key={word}") for word in ("old", "newer")}
    (copy,) = copies
    assert copy.parent.name == f"ntpctp-{getpass.getuser()}"
    assert working_copy("sftp://you:old@host/runs") != copy
    (alone,) = {working_copy(f"sftp://me:{word}@host") for word in ("old", "newer")}
    assert "old" not in alone.name and "newer" not in alone.name


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.delenv("NTPCTP_SCRATCH", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4711)

    def unknown():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert working_copy("s3://a/b").parent.name == "ntpctp-4711"


def test_local_urls_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("file://runs/a/").url == f"file://{tmp_path}/runs/a"
    assert Store(f"local://{tmp_path}/x/../runs/a").url == f"file://{tmp_path}/runs/a"


def test_urls_that_name_no_place():
    with pytest.raises(InputError, match=r"^s3://: no path in the URL; expected s3://bucket/path"):
        Store("s3://")
    with pytest.raises(InputError, match=r"expected one URL, found a chain of them"):
        Store("simplecache::s3://bucket/a")


def test_the_version_of_a_file_changes_with_it():
    assert version_of({"size": 1, "name": "a"}) is None
    utc = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    there = utc.astimezone(datetime.timezone(datetime.timedelta(hours=5)))
    assert version_of({"size": 1, "LastModified": utc}) == version_of(
        {"size": 1, "LastModified": there}
    )
    assert version_of({"size": 1, "mtime": 2.0}) != version_of({"size": 1, "mtime": 3.0})
