"""Support for tests of tenants and keys: a clock that the test sets, and an administrator's requests."""

import dataclasses
from datetime import UTC, datetime, timedelta

from support.server import RunningServer

ADMIN_KEY = "sp_admin_" + "5ec4e7" * 8
"""What the tests' servers are started with."""


@dataclasses.dataclass
class Clock:
    """A time of day that goes on only when told."""

    now: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def bearer(key: str) -> dict[str, str]:
    """The headers that show a key."""
    return {"Authorization": f"Bearer {key}"}


@dataclasses.dataclass(frozen=True)
class Keyring:
    """Makes tenants and keys on a server, as its administrator."""

    server: RunningServer

    def tenant(self, tenant: str, **limits: object) -> None:
        """Make a tenant."""
        body = {"id": tenant, **limits}
        self.server.client.post("/admin/tenants", json=body, headers=bearer(ADMIN_KEY)).raise_for_status()

    def change(self, tenant: str, **limits: object) -> None:
        """Set something of a tenant."""
        url = f"/admin/tenants/{tenant}"
        self.server.client.patch(url, json=limits, headers=bearer(ADMIN_KEY)).raise_for_status()

    def key(self, tenant: str, role: str) -> str:
        """Make a key; its text."""
        url = f"/admin/tenants/{tenant}/keys"
        made = self.server.client.post(url, json={"role": role}, headers=bearer(ADMIN_KEY)).raise_for_status()
        return str(made.json()["key"])
