"""Copies tombstones of keys and tenants with a registry: into the accounts of a store, or a file in a backup folder."""

from pathlib import Path

from pydantic import ValidationError

from adapters.atomic_files import atomic_write
from adapters.registry.opening import is_folder
from adapters.storage.opening import open_storage
from cli.console import CommandError
from service.tenancy.accounts import open_accounts
from service.tenancy.models import TOMBSTONES, Tombstones

FILE = "tombstones.json"


def copy_tombstones(source: str, target: str) -> None:
    """Copy the tombstones of keys, secrets and tenants, so that the target never accepts them again.

    Raises:
        CommandError: the file in a backup folder is damaged
        RegistryUnavailable: source or target cannot be reached
    """
    found = _read(source)
    if not found.names and not found.tenants:
        return
    if is_folder(target):
        atomic_write({Path(target) / FILE: TOMBSTONES.dump_json(found, indent=1)})
    else:
        open_accounts(open_storage(target)).bury(found, actor="cli")


def _read(source: str) -> Tombstones:
    if not is_folder(source):
        return open_accounts(open_storage(source)).tombstones()
    file = Path(source) / FILE
    if not file.exists():
        return Tombstones()
    try:
        return TOMBSTONES.validate_json(file.read_bytes())
    except ValidationError as exc:
        raise CommandError(f"{file} is damaged; restore it from another copy of the backup") from exc
