"""The command that asks a server for its first answer, ready to be pasted into a shell."""

import json
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from adapters import DEFAULT_TENANT, PRODUCTION, AdapterError
from adapters.files import from_files
from adapters.registry.opening import open_registry

_EXAMPLE = "a gripping film"
_POLL_S = 0.2


def first_request(url: str, registry: str, *, require_keys: bool) -> str:
    """Return a `curl` command that classifies a text by a task of the registry; without a task, one that publishes.

    Raises:
        AdapterError: the registry cannot be read
    """
    store = open_registry(registry)
    infos = [info for info in store.list(DEFAULT_TENANT) if PRODUCTION in info.aliases]
    if not infos:
        return f"superpos push <run folder> <task> --to {shlex.quote(url)}"
    info = next((info for info in infos if info.task == "sst2"), infos[0])
    version = info.aliases[PRODUCTION]
    digest = next(each.digest for each in info.versions if each.version == version)
    fields = from_files(store.get(digest)).spec.fields
    item = _EXAMPLE if len(fields) == 1 else {field: f"{_EXAMPLE} ({field})" for field in fields}
    key = ' -H "Authorization: Bearer $SUPERPOS_API_KEY"' if require_keys else ""
    body = shlex.quote(json.dumps({"inputs": item}))
    return f"curl -s {url}/classify/{info.task} -H 'Content-Type: application/json'{key} -d {body}"


def when_ready(is_ready: Callable[[], bool], announce: Callable[[str], None], command: Callable[[], str]) -> None:
    """Announce the command from a thread of its own as soon as the server is ready."""

    def wait() -> None:
        while not is_ready():
            time.sleep(_POLL_S)
        with suppress(AdapterError):  # which the server logs itself
            announce(command())

    threading.Thread(target=wait, name="first-request", daemon=True).start()
