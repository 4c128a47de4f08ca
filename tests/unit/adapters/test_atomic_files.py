"""Files that are replaced whole, and what the command says where the system refuses one."""

from pathlib import Path

import pytest
from support.adapters import an_adapter
from support.disk import full_disk

from adapters.atomic_files import atomic_write
from adapters.files import CARD, MANIFEST, from_files, read_folder, to_files, write_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_full_disk_leaves_every_file_as_it_was_and_names_the_one_that_it_stopped_at(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    atomic_write({first: b"old", second: b"old"})
    with full_disk(max_bytes=100), pytest.raises(OSError, match="File too large") as caught:
        atomic_write({first: b"new", second: bytes(101)})
    assert caught.value.filename == str(second)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"first": b"old", "second": b"old"}


def test_a_full_disk_leaves_the_adapter_that_a_folder_held(tmp_path: Path) -> None:
    adapter = an_adapter()
    write_folder(tmp_path, to_files(adapter))
    longer = to_files(adapter) | {MANIFEST: bytes(1 << 18)}
    with full_disk(max_bytes=1 << 17), pytest.raises(OSError, match="File too large"):
        write_folder(tmp_path, longer)
    assert from_files(read_folder(tmp_path)).digest == adapter.digest


def test_a_folder_that_is_written_again_keeps_nothing_of_the_adapter_before(tmp_path: Path) -> None:
    write_folder(tmp_path, to_files(an_adapter(), card="# The card of another\n"))
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    write_folder(tmp_path, to_files(an_adapter()))
    assert CARD not in read_folder(tmp_path)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
