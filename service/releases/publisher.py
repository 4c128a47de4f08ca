"""Publishing into a running server: every check of an upload, a smoke forward, and only then the registry."""

import asyncio
from collections.abc import Mapping, Sequence

from adapters import InvalidAdapter, Publication, Registry
from adapters.names import check_alias, check_name
from service.catalog.adapter_cache import AdapterCache
from service.catalog.sync import CatalogSync
from service.errors import InferenceFailed
from service.inference.classifier import Classifier
from service.releases.storage_quota import StorageQuota

_SMOKE_TIMEOUT_S = 30.0


class Publisher:
    """Takes untrusted files to a visible version, or refuses them."""

    def __init__(
        self,
        registry: Registry,
        adapters: AdapterCache,
        classifier: Classifier,
        follower: CatalogSync,
        limits: StorageQuota,
    ) -> None:
        self._registry, self._adapters = registry, adapters
        self._classifier, self._follower, self._limits = classifier, follower, limits

    async def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        aliases: Sequence[str] | None,
        expected: str | None,
        actor: str,
    ) -> Publication:
        """Check, try out, store, and make visible here at once.

        Args:
            expected: the digest that the files must have, where the uploader knows it

        Raises:
            InvalidName, InvalidAdapter, backbone.InvalidLabels: the upload is refused; says which check
            QuotaExceeded: the tenant has stored as much as it may
            RegistryUnavailable: it could not be stored, or the registry has lost what it had
        """
        self._follower.require()
        check_name("task", task)
        for alias in aliases or ():
            check_alias(alias)
        adapter = await asyncio.to_thread(self._adapters.parse, files)
        if expected is not None and adapter.digest != expected:
            raise InvalidAdapter("digest", adapter.digest, expected)
        await self._limits.check(tenant, task, adapter.digest, files)  # before the model's time is spent on it
        try:
            await self._classifier.try_out(tenant, adapter, timeout_s=_SMOKE_TIMEOUT_S)
        except InferenceFailed as exc:
            raise InvalidAdapter("smoke forward", str(exc), "finite label scores") from exc
        async with self._limits.storing(tenant, task, adapter.digest, files):
            publication = await asyncio.to_thread(
                self._registry.publish, tenant, task, files, actor=actor, aliases=aliases
            )
            self._adapters.add(adapter)
            await self._follower.refresh()
        return publication
