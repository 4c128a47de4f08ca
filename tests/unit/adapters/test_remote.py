"""Adapters by URL: the same files as from a folder, under the same rules, from the Hub, a store or this machine."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from support.adapters import an_adapter
from support.hub import Hub, model_hub

from adapters import InvalidAdapter, InvalidName
from adapters.files import CARD, CONFIG, MANIFEST, SIZE_LIMITS, WEIGHTS, from_files, to_files, write_folder
from adapters.remote import AdapterUrl, read_files

ADAPTER = an_adapter()
FILES = to_files(ADAPTER, card="A card.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "hub" / "sst2", FILES)
    (tmp_path / "hub" / "sst2" / "optimizer.pt").write_bytes(b"not read")
    return tmp_path / "hub" / "sst2"


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = model_hub(folder.parent, "acme/adapters")
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url, "token": False})
    yield server
    server.stop()


def test_a_folder_of_this_machine_is_read_by_its_url(folder: Path) -> None:
    assert AdapterUrl.parse(folder.as_uri()).read() == FILES
    assert AdapterUrl.parse(f"{folder.as_uri()}/#{ADAPTER.digest}").read() == FILES
    (named := folder.with_name("a folder#1")).symlink_to(folder)
    assert AdapterUrl.parse(named.as_uri()).read() == FILES


def test_the_hub_is_asked_for_the_files_of_an_adapter_and_no_others(hub: Hub) -> None:
    for url in ("hf://acme/adapters/sst2", "hf://acme/adapters@v2/sst2", f"hf://acme/adapters/sst2#{ADAPTER.digest}"):
        assert AdapterUrl.parse(url).read() == FILES
    assert not [line for line in hub.asked if "optimizer" in line]
    assert [line for line in hub.asked if "/resolve/v2/" in line]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hf://acme/adapters@v3/sst2", "v3"),
        ("hf://acme/unknown/sst2", "acme/unknown"),
        ("hf://acme/adapters/none", "without an adapter"),
        ("hf://adapters", "adapters"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: Hub, url: str, reason: str) -> None:
    with pytest.raises(InvalidAdapter, match=reason):
        AdapterUrl.parse(url).read()


def test_a_hub_that_does_not_respond_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": "http://127.0.0.1:1", "token": False})
    with pytest.raises(InvalidAdapter, match=r"hf://acme/adapters/sst2: got .*, expected a folder that can be read"):
        AdapterUrl.parse("hf://acme/adapters/sst2").read()


def test_another_digest_than_the_pinned_one_is_refused(folder: Path, hub: Hub) -> None:
    other = "sha256:" + "0" * 64
    for url in (f"hf://acme/adapters/sst2#{other}", f"{folder.as_uri()}#{other}"):
        with pytest.raises(InvalidAdapter, match=f"{ADAPTER.digest}, expected {other}"):
            AdapterUrl.parse(url).read()


@pytest.mark.parametrize("scheme", ["hf", "file"])
def test_a_file_over_its_limit_is_refused(folder: Path, hub: Hub, scheme: str) -> None:
    (folder / MANIFEST).write_bytes(b"{" * (SIZE_LIMITS[MANIFEST] + 2))
    url = "hf://acme/adapters/sst2" if scheme == "hf" else folder.as_uri()
    with pytest.raises(InvalidAdapter, match=f"size of .*{MANIFEST}.*at most {SIZE_LIMITS[MANIFEST]} bytes"):
        from_files(AdapterUrl.parse(url).read())
    if scheme == "hf":
        assert not [line for line in hub.asked if "/resolve/" in line and MANIFEST in line]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_links_and_devices_are_refused_on_any_filesystem(folder: Path, name: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(FILES[name])
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    with pytest.raises(InvalidAdapter, match="link"):
        read_files(LocalFileSystem(), str(folder))
    with pytest.raises(InvalidAdapter, match="link"):
        AdapterUrl.parse(folder.as_uri()).read()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InvalidAdapter, match="regular file"):
        read_files(LocalFileSystem(), str(folder))
    with pytest.raises(InvalidAdapter, match="regular file"):
        AdapterUrl.parse(folder.as_uri()).read()


def test_every_filesystem_of_fsspec_is_read_in_the_same_way(folder: Path) -> None:
    memory = MemoryFileSystem(skip_instance_cache=True)
    expected = {name: data for name, data in FILES.items() if name != CARD}
    for name, data in expected.items():
        memory.pipe(f"/bucket/sst2/{name}", data)
    memory.pipe(f"/bucket/sst2/{CARD}/inner", b"a folder in the place of a card")
    assert read_files(memory, "/bucket/sst2") == expected
    assert read_files(LocalFileSystem(), str(folder)) == FILES
    assert read_files(memory, "/bucket/nothing") == {}


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/sst2",
        "ftp://example.org/sst2",
        "hf://",
        "s3:///",
        "s3://key:secret@bucket/sst2",
        "s3://bucket/sst2?versionId=secret",
        "file://secret.example.org/sst2",
        "file:///sst2#sha256:abc",
    ],
)
def test_other_urls_are_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(InvalidName, match="expected") as caught:
        AdapterUrl.parse(url)
    if "@" in url or "?" in url:
        assert "secret" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="s3fs is installed")
def test_the_extra_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidAdapter, match=r"pip install 'superpos\[s3\]'"):
        AdapterUrl.parse("s3://models/sst2").read()
