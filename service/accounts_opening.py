"""Opens the accounts that lie beside a registry, by the text that names the registry's place."""

from pathlib import Path

from adapters.opening import is_redis
from adapters.redis_connection import connect
from service.account_changes import Accounts
from service.accounts import AccountStore
from service.accounts_redis import RedisAccounts
from service.accounts_sqlite import SqliteAccounts


def open_accounts(place: str) -> Accounts:
    """The tenants and keys of a registry's place; a SQLite file is made if missing, a Redis server asked nothing yet.

    Raises:
        adapters.InvalidName: the place is neither
        adapters.RegistryUnavailable: the file cannot be opened
    """
    store: AccountStore = RedisAccounts(connect(place)) if is_redis(place) else SqliteAccounts(Path(place))
    return Accounts(store)
