"""Permissions hoped for: what holds keys and tenants' texts is its owner's alone, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import superpos

from adapters.registry.copying import copy
from adapters.registry.opening import open_archive, open_registry
from adapters.storage.opening import open_storage
from adapters.storage.private_files import close_to_others
from adapters.storage.sqlite import SqliteFile
from deploy.secret_files import make_secrets
from service.counters.build import build_counters
from service.tenancy.accounts import open_accounts
from training.sweeping.study import _storage


@pytest.fixture(autouse=True)
def careless_umask() -> Iterator[None]:
    """Every file that does not ask for less is open to all."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_parts(folder: Path) -> list[str]:
    """Return what others can reach in a folder; nothing in a folder that they cannot open."""
    if not mode(folder) & 0o077:
        return []
    found = [path for path in folder.iterdir() if path.is_file() and mode(path) & 0o077]
    inner = [part for path in folder.iterdir() if path.is_dir() for part in open_parts(path)]
    return [*(path.name for path in found), *inner]


def use(place: Path) -> None:
    """Write everything that a server stores."""
    storage = open_storage(place)
    open_registry(storage)
    accounts = open_accounts(storage)
    build_counters(storage)
    assert isinstance(storage, SqliteFile)
    accounts.create_key("default", "operator", actor="test")
    with storage.open() as db:  # the log and its index exist while somebody reads
        db.execute("SELECT * FROM account_keys").fetchall()
        names = {path.name for path in place.parent.iterdir()}
        assert {f"{place.name}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")} <= names
        assert open_parts(place.parent) == []


def test_permissions_hoped_for(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    use(tmp_path / "registry.sqlite")
    use(tmp_path / "new" / "folder" / "registry.sqlite")
    assert mode(tmp_path / "new" / "folder") == 0o700, "a folder of its own"
    source = open_archive(str(tmp_path / "registry.sqlite"))
    copy(source, open_archive(str(tmp_path / "backup")))
    copy(source, open_archive(str(tmp_path / "copy.sqlite")))
    _storage(tmp_path / "study.sqlite")
    make_secrets(tmp_path / "secrets")
    assert open_parts(tmp_path) == []


def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    place = tmp_path / "registry.sqlite"
    use(place)
    make_secrets(tmp_path / "secrets")
    _storage(tmp_path / "study.sqlite")
    with open_storage(place).open() as db:  # type: ignore[union-attr]
        db.execute("SELECT * FROM account_keys").fetchall()
        for path in tmp_path.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)
        make_secrets(tmp_path / "secrets")
        _storage(tmp_path / "study.sqlite")
        use(place)


def test_another_users_file_is_reported_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "registry.sqlite"
    use(place)
    place.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    storage = open_storage(place)
    assert isinstance(storage, SqliteFile)
    assert storage.open_to_others == [f"chmod go= {place}"]
    assert mode(place) == 0o644
    assert close_to_others(tmp_path / "missing") is None


@pytest.mark.slow
def test_the_command_that_backs_up_leaves_nothing_open(tmp_path: Path) -> None:
    """Tombstones name keys, and the folder is where a person copies it to."""
    place = tmp_path / "registry.sqlite"
    use(place)
    accounts = open_accounts(open_storage(place))
    accounts.create_key("default", "operator", actor="test")  # the last valid one cannot be revoked
    accounts.revoke_key("default", accounts.keys("default")[0].id, actor="test")
    assert superpos("registry", "copy", place, tmp_path / "backup").code == 0
    assert (tmp_path / "backup" / "tombstones.json").is_file()
    assert open_parts(tmp_path) == []
