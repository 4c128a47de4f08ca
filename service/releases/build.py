"""Everything that writes to the registry."""

from dataclasses import dataclass

from service.catalog.build import RegistryGroup
from service.inference.classifier import Classifier
from service.releases.aliases import Aliases
from service.releases.publisher import Publisher
from service.releases.rollouts import Rollouts
from service.releases.storage_quota import StorageQuota
from service.releases.writer import RegistryWriter
from service.tenancy.account_cache import AccountCache


@dataclass(frozen=True, slots=True)
class ReleasesGroup:
    """Uploads, aliases and rollouts."""

    publisher: Publisher
    aliases: Aliases
    rollouts: Rollouts


def build_releases(registry: RegistryGroup, classifier: Classifier, account_cache: AccountCache) -> ReleasesGroup:
    """Build the writers of a registry.

    Args:
        registry: what they write to
        classifier: runs an uploaded adapter once before its version is visible
        account_cache: the tenants' storage quotas
    """
    quota = StorageQuota(registry.store, registry.catalog, registry.sync, account_cache.tenant)
    writer = RegistryWriter(registry.store, registry.sync)
    return ReleasesGroup(
        publisher=Publisher(writer, registry.adapters, classifier, quota),
        aliases=Aliases(writer, registry.catalog),
        rollouts=Rollouts(writer, registry.catalog),
    )
