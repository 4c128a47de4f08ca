"""Reads the present state of a Redis registry, in pages of tasks that belong to one history."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from adapters.errors import RegistryUnavailable
from adapters.registry.protocol import Change, Snapshot, TaskInfo
from adapters.registry.redis_log import RedisLog
from adapters.registry.redis_records import change, task_record, text
from adapters.registry.redis_scripts import READ_TASKS
from adapters.registry.trimming import is_behind
from adapters.storage.redis import RedisStore

_Entry = tuple[bytes, Sequence[bytes] | Mapping[str | bytes, str | bytes]]
_PAGE = 500
"""Tasks per script, which occupies the server for some milliseconds."""
_ATTEMPTS = 5


class RedisSnapshots:
    """The state of one registry."""

    def __init__(self, store: RedisStore, log: RedisLog) -> None:
        """Register the script; nothing is sent yet."""
        self._store, self._log = store, log
        self._read_tasks = store.client.register_script(READ_TASKS)

    def read(self) -> Snapshot:
        """Return the present state.

        The pages are read one after another, while others write. Each has the log's last entry at its moment. If one of
        these entries is not in the log at the end, the log was trimmed, or Redis has failed over to a replica that
        lacks it: the page may show what never was, and everything is read again.

        Raises:
            RegistryUnavailable: Redis cannot be read, or the log kept changing in that way
        """
        for _ in range(_ATTEMPTS):
            last = self._last()
            if last is None:
                return Snapshot((), None)
            tasks: list[TaskInfo] = []
            ends: dict[int, Change | None] = {}
            for page, end in self._pages():
                tasks += page
                ends[end.position if end is not None else 0] = end
            since = self._log.changes(last.position - 1, None)
            present = {logged.position: logged for logged in since}
            one_history = all(end is not None and present.get(end.position) == end for end in ends.values())
            if since[:1] == [last] and one_history and not is_behind(last.position, since):
                return Snapshot(tasks, last)
        raise RegistryUnavailable(
            f"registry {self._store.address}: its log changed each of {_ATTEMPTS} times that it was read; try again"
        )

    def _last(self) -> Change | None:
        with self._store.reaching():
            found = self._store.client.xrevrange(self._store.key("changes"), count=1)
        return _entry(cast(Sequence[_Entry], found))

    def _pages(self) -> Iterator[tuple[list[TaskInfo], Change | None]]:
        """Yield tasks that have versions, and the log's last entry when they were read."""
        tenants = self._names("tenants")
        for tenant in tenants:
            names = self._names("tasks", tenant)
            for first in range(0, len(names), _PAGE):
                page = names[first : first + _PAGE]
                keys = [self._store.key("changes"), *(self._store.key("task", tenant, name) for name in page)]
                with self._store.reaching():
                    hashes, end = self._read_tasks(keys)
                infos = (
                    task_record(tenant, name, dict(zip(flat[::2], flat[1::2], strict=True))).info
                    for name, flat in zip(page, json.loads(hashes), strict=True)
                )
                yield [info for info in infos if info.versions], _entry(end)

    def _names(self, *key: str) -> list[str]:
        with self._store.reaching():
            return sorted(cast(bytes, name).decode() for name in self._store.client.smembers(self._store.key(*key)))


def _entry(found: Sequence[_Entry]) -> Change | None:
    """Return the entry of a reply to XREVRANGE; a script's reply has names and values in turn."""
    for entry_id, fields in found:
        pairs = fields.items() if isinstance(fields, Mapping) else zip(fields[::2], fields[1::2], strict=True)
        return change(entry_id, text(dict(pairs)))
    return None
