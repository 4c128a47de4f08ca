"""The shared fixtures of this folder's tests: a server with two tenants, and people who use its console."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser
from support.adapters import PAIR, TOPICS, make_adapter
from support.console import People
from support.fixtures.server import model_threads_end, quiet_json_logs, serve_module
from support.report import chromium
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring

from backbone import Backbone

TENANTS = ("acme", "zeta")


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """A server with two tenants that keep texts. Acme has a task of three versions and two more, Zeta has one."""
    server = serve_module(require_keys=True, admin_key=ADMIN_KEY, bundled=False)
    keyring = Keyring(server)
    for tenant in TENANTS:
        keyring.tenant(tenant, retention_days=7)
    acme, zeta = (keyring.key(tenant, "publish") for tenant in TENANTS)
    for seed in (1, 2, 3):
        server.upload("sentiment", make_adapter(tiny, seed=seed), key=acme, **({"alias": ""} if seed == 3 else {}))
    server.upload("pair", make_adapter(tiny, PAIR), key=acme)
    server.upload("topic", make_adapter(tiny, TOPICS, readout="pooled"), key=acme)
    server.upload("secret", make_adapter(tiny, seed=9), key=zeta)
    return server


@pytest.fixture
def people(server: RunningServer, chromium: Browser) -> Iterator[People]:
    """Opens the console as somebody; at the end of the test, no page may have reported an error."""
    people = People(server, chromium)
    yield people
    people.leave()
