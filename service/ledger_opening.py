"""Opens the ledger that stands beside a registry, by the text that names the registry's place."""

from pathlib import Path

from adapters.opening import is_redis
from adapters.redis_connection import connect
from service.ledger import Ledger
from service.ledger_redis import RedisLedger
from service.ledger_sqlite import SqliteLedger


def open_ledger(place: str) -> Ledger:
    """The ledger of the registry at a place; a SQLite file is made if missing, a Redis server asked nothing yet.

    Raises:
        RegistryUnavailable: the file cannot be opened
    """
    return RedisLedger(connect(place)) if is_redis(place) else SqliteLedger(Path(place))
