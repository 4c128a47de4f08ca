"""The first administrator's key: given by whoever starts the server, so that there is a key to make others with."""

from pathlib import Path

from pydantic import SecretStr

from adapters import InvalidName
from service.account_changes import Accounts
from service.keys import KeyText


def ensure_admin_key(accounts: Accounts, key: SecretStr | None, file: Path | None) -> None:
    """See to it that the key that the settings name is there; nothing where they name none.

    Raises:
        InvalidName: it has not a key's form, or its file cannot be read; no part of it is repeated
        Conflict: its id is another key's
        RegistryUnavailable: it cannot be stored
    """
    if file is not None:
        try:
            key = SecretStr(file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidName("admin_key_file", str(file), "a file that can be read, with a key in it") from exc
    if key is not None:
        accounts.ensure_admin_key(KeyText.given(key.get_secret_value()), actor="settings")
