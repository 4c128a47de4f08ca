"""Links followed: what is read for publishing from a folder is a regular file of that folder."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support.adapters import make_adapter
from support.cli import superpos
from support.registry import Uploads

from adapters import AdapterError, InvalidAdapter, RegistryUnavailable
from adapters.files import CARD, CONFIG, MANIFEST, WEIGHTS, read_folder, to_files, write_folder
from adapters.registry.copying import copy
from adapters.registry.folder_archive import INDEX
from adapters.registry.opening import open_archive, open_registry
from adapters.regular_files import NotRegular, open_regular, read_regular
from backbone import Backbone
from training.data.examples import sum_of
from training.data.formats import class_names, raw_rows
from training.errors import InvalidData, InvalidTaskFile
from training.runs.adapter_folder import adapter_files
from training.runs.run_result import read_run_result
from training.task.task_file import load_task_file

SECRET = "the passphrase is swordfish"
Trap = Callable[[Path, Path], object]
"""Puts something in the place of a file, which leads to a secret."""


def linked(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def linked_relatively(place: Path, secret: Path) -> None:
    place.symlink_to(os.path.relpath(secret, place.parent))


def linked_twice(place: Path, secret: Path) -> None:
    place.with_name("inner").symlink_to(secret)
    place.symlink_to("inner")


def a_pipe(place: Path, secret: Path) -> None:
    os.mkfifo(place)


def a_socket(place: Path, secret: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place.name)
    finally:
        os.chdir(here)


def an_endless_device(place: Path, secret: Path) -> None:
    place.symlink_to("/dev/zero")


def like_a_blob(place: Path, secret: Path) -> None:
    """A link as a Hugging Face cache has them, in a folder that is none."""
    blobs = place.parent.parent.parent / "blobs"
    blobs.mkdir(exist_ok=True)
    if secret.is_dir():
        secret.rename(blobs / ("a" * 64))
    else:
        (blobs / ("a" * 64)).write_bytes(secret.read_bytes())
    place.symlink_to(f"../../blobs/{'a' * 64}")


TRAPS: list[Trap] = [
    linked,
    linked_relatively,
    linked_twice,
    a_pipe,
    a_socket,
    an_endless_device,
    like_a_blob,
]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of what was downloaded."""
    path = tmp_path / "home" / "secret.txt"
    path.parent.mkdir()
    path.write_text(SECRET, encoding="utf-8")
    return path


@pytest.fixture
def downloaded(tmp_path: Path, uploads: Uploads) -> Path:
    """An adapter's folder that somebody else made."""
    folder = tmp_path / "downloads" / "one" / "adapter"
    write_folder(folder, uploads[0])
    return folder


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("name", [CARD, MANIFEST])
def test_a_folder_with_a_trap_in_place_of_a_file_is_refused_and_says_why(
    downloaded: Path, secret: Path, trap: Trap, name: str
) -> None:
    (downloaded / name).unlink()
    trap(downloaded / name, secret)
    with pytest.raises(InvalidAdapter) as refused:
        read_folder(downloaded)
    assert str(downloaded / name) in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("trap", TRAPS)
def test_no_command_publishes_what_a_trap_leads_to(downloaded: Path, secret: Path, tmp_path: Path, trap: Trap) -> None:
    """`push` of a folder and of a run, and `import`: a card may hold any text, so it is what an attacker links."""
    (downloaded / CARD).unlink()
    trap(downloaded / CARD, secret)
    place = tmp_path / "registry.sqlite"
    run = tmp_path / "run"
    run.mkdir()
    (run / "adapter").symlink_to(downloaded)
    for command in (("push", downloaded, "sst2"), ("push", run, "sst2"), ("import", downloaded, "sst2")):
        refusal = superpos(*command, "--to", place).refusal()
        assert "expected a regular file" in refusal
    assert open_registry(place).changes() == []


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize(
    "part", [INDEX, f"adapters/acme/sst2/v1/{CARD}", "adapters/acme/sst2/v1", "adapters/acme", "adapters"]
)
def test_no_copy_of_a_registry_takes_what_a_trap_in_a_backup_leads_to(
    tmp_path: Path, uploads: Uploads, secret: Path, trap: Trap, part: str
) -> None:
    source, backup = open_registry(tmp_path / "source.sqlite"), tmp_path / "a" / "b" / "backup"
    source.publish("acme", "sst2", uploads[0], actor="ann")
    copy(source, open_archive(str(backup)))
    moved = tmp_path / "moved"
    (backup / part).rename(moved)
    trap(backup / part, moved if moved.is_dir() else secret)
    target = open_registry(tmp_path / "target.sqlite")
    with pytest.raises(AdapterError) as refused:
        copy(open_archive(str(backup)), target)
    assert SECRET not in str(refused.value)
    assert target.list("acme") == []


def test_a_backup_is_not_written_through_a_link(tmp_path: Path, uploads: Uploads) -> None:
    source, backup, elsewhere = open_registry(tmp_path / "source.sqlite"), tmp_path / "backup", tmp_path / "elsewhere"
    copy(open_registry(tmp_path / "empty.sqlite"), open_archive(str(backup)))
    source.publish("acme", "sst2", uploads[0], actor="ann")
    elsewhere.mkdir()
    (backup / "adapters").symlink_to(elsewhere)
    with pytest.raises(RegistryUnavailable, match="which is not followed"):
        copy(source, open_archive(str(backup)))
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []


def test_a_file_is_not_written_through_a_link_that_waits_under_its_temporary_name(
    tmp_path: Path, uploads: Uploads
) -> None:
    kept, folder = tmp_path / "kept.txt", tmp_path / "folder"
    folder.mkdir()
    for trap in (lambda part: part.symlink_to(kept), lambda part: part.hardlink_to(kept)):
        kept.write_text("kept", encoding="utf-8")
        part = folder / f"{CARD}.part"
        trap(part)
        with pytest.raises(OSError, match=r"README\.md"):
            write_folder(folder, uploads[0])
        assert kept.read_text(encoding="utf-8") == "kept"
        part.unlink(missing_ok=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_a_hard_link_to_a_file_of_another_owner_is_refused(downloaded: Path, secret: Path) -> None:
    (downloaded / CARD).unlink()
    (downloaded / CARD).hardlink_to(secret)
    assert read_folder(downloaded)[CARD] == SECRET.encode()  # one's own, as caches share files
    os.chown(secret, 12345, 12345)
    with pytest.raises(InvalidAdapter, match="a hard link to a file of user 12345"):
        read_folder(downloaded)


def test_what_is_read_is_what_was_checked(tmp_path: Path, secret: Path) -> None:
    """A file that is exchanged for a link while it is open is still the file that was checked."""
    path = tmp_path / "file"
    path.write_text("mine", encoding="utf-8")
    with open_regular(path) as file:
        path.unlink()
        path.symlink_to(secret)
        assert file.read() == b"mine"
    with pytest.raises(NotRegular):
        open_regular(path)


def test_a_file_larger_than_its_limit_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotRegular, match="larger than 1000 bytes"):
        read_regular(path, max_bytes=1000)


def test_the_way_to_the_folder_that_a_user_names_may_lead_through_links(downloaded: Path, tmp_path: Path) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to(downloaded)
    assert read_folder(latest) == read_folder(downloaded)


# --- rows, task files and runs, which training reads before it publishes

ROWS = {
    "rows.jsonl": b'{"text": "a", "label": "x"}\n',
    "rows.csv": b"text,label\na,x\n",
    "rows.tsv": b"text\tlabel\na\tx\n",
}
"""Files of one row; a Parquet file is made of them."""


@pytest.mark.parametrize("trap", [linked, linked_relatively, linked_twice, a_pipe, a_socket, an_endless_device])
@pytest.mark.parametrize("name", [*ROWS, "rows.parquet"])
def test_rows_are_read_from_regular_files(tmp_path: Path, trap: Trap, name: str) -> None:
    real = tmp_path / "elsewhere" / name
    real.parent.mkdir()
    if name in ROWS:
        real.write_bytes(ROWS[name])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": ["x"]}), real)
    assert len(list(raw_rows(real))) == 1
    trap(tmp_path / name, real)
    for read in (
        lambda path: list(raw_rows(path)),
        lambda path: sum_of([path]),
        lambda path: class_names(path, "label"),
    ):
        if read(real):  # a file without a schema names no classes
            with pytest.raises((InvalidData, NotRegular)) as refused:
                read(tmp_path / name)
            assert name in str(refused.value)


@pytest.mark.parametrize("trap", [linked, linked_relatively, linked_twice, a_pipe, a_socket, an_endless_device])
def test_a_task_file_and_a_run_are_read_from_regular_files(tmp_path: Path, secret: Path, trap: Trap) -> None:
    trap(tmp_path / "task.yaml", secret)
    with pytest.raises(InvalidTaskFile) as refused:
        load_task_file(tmp_path / "task.yaml", variables={})
    assert SECRET not in str(refused.value)
    (tmp_path / "run").mkdir()
    trap(tmp_path / "run" / "run.json", secret)
    with pytest.raises(InvalidAdapter) as refused_run:
        adapter_files(tmp_path / "run")
    assert SECRET not in str(refused_run.value)
    with pytest.raises(InvalidData) as no_result:
        read_run_result(tmp_path / "run")
    assert SECRET not in str(no_result.value)


# --- a Hugging Face cache


@pytest.fixture
def snapshot(tmp_path: Path, tiny: Backbone) -> Path:
    """A repository with an adapter, as `snapshot_download` leaves it."""
    repository = tmp_path / "hub" / "models--acme--sst2"
    folder = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, (name, data) in enumerate(to_files(make_adapter(tiny), card="# A card\n").items()):
        blob = f"{number:040x}" if number % 2 else f"{number:064x}"
        (repository / "blobs" / blob).write_bytes(data)
        (folder / name).symlink_to(f"../../blobs/{blob}")
    return folder


def test_a_snapshot_in_a_hugging_face_cache_is_published(snapshot: Path, tmp_path: Path) -> None:
    assert set(read_folder(snapshot)) == {CONFIG, WEIGHTS, MANIFEST, CARD}
    assert superpos("push", snapshot, "sst2", "--to", tmp_path / "registry.sqlite").code == 0
    files = read_folder(snapshot)
    for name in files:  # an adapter in a folder of its repository
        (snapshot / "inner").mkdir(exist_ok=True)
        (snapshot / "inner" / name).symlink_to(Path("..") / (snapshot / name).readlink())
    assert read_folder(snapshot / "inner") == files


@pytest.mark.parametrize(
    "target",
    [
        "../../blobs/../../../../home/secret.txt",
        "../../../models--other--private/blobs/" + "b" * 64,
        "../blobs/" + "b" * 64,
        "../../../blobs/" + "b" * 64,
        "../../blobs/" + "c" * 64,
    ],
)
def test_a_snapshot_leads_to_blobs_of_its_own_repository_only(snapshot: Path, secret: Path, target: str) -> None:
    hub = snapshot.parents[2]
    for blobs in (hub / "models--other--private" / "blobs", hub / "blobs", snapshot.parent / "blobs"):
        blobs.mkdir(parents=True)
        (blobs / ("b" * 64)).write_text(SECRET, encoding="utf-8")
    (snapshot.parents[1] / "blobs" / ("c" * 64)).symlink_to(secret)  # a blob that is itself a link
    (snapshot / CARD).unlink()
    (snapshot / CARD).symlink_to(target)
    with pytest.raises(InvalidAdapter, match="which is not followed"):
        read_folder(snapshot)
