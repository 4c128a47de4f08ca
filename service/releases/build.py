"""Everything that writes to the registry."""

from collections.abc import Callable
from dataclasses import dataclass

from service.catalog.build import RegistryGroup
from service.feedback.feedback import Feedback
from service.inference.classifier import Classifier
from service.inference.pipeline import InferencePipeline
from service.log_trimmer import LogTrimmer, Pause
from service.releases.aliases import Aliases
from service.releases.correction_gate import CorrectionGate
from service.releases.publisher import Publisher
from service.releases.rollouts import Rollouts
from service.releases.storage_quota import StorageQuota
from service.releases.writer import RegistryWriter
from service.settings import Settings
from service.tenancy.account_cache import AccountCache


@dataclass(frozen=True, slots=True)
class ReleasesGroup:
    """Uploads, aliases, rollouts, and the trimmer of the log."""

    publisher: Publisher
    aliases: Aliases
    rollouts: Rollouts
    log_trimmer: LogTrimmer


def build_releases(
    settings: Settings,
    registry: RegistryGroup,
    classifier: Classifier,
    account_cache: AccountCache,
    *,
    pipeline: InferencePipeline,
    feedback: Feedback,
    pause: Callable[[], Pause],
) -> ReleasesGroup:
    """Build the writers of a registry.

    Args:
        settings: limits of aliases and of the log
        registry: what they write to
        classifier: runs an uploaded adapter once before its version is visible
        account_cache: the tenants' storage quotas
        pipeline: computes the answers that a promotion compares
        feedback: the corrections that it compares them on
        pause: for the trimmer of the log
    """
    quota = StorageQuota(
        registry.store,
        registry.catalog,
        registry.sync,
        account_cache.tenant,
        max_aliases=settings.max_aliases_per_tenant,
    )
    writer = RegistryWriter(registry.store, registry.sync)
    return ReleasesGroup(
        publisher=Publisher(writer, registry.adapters, classifier, quota),
        aliases=Aliases(writer, registry.catalog, quota),
        rollouts=Rollouts(
            writer, registry.catalog, CorrectionGate(feedback, registry.catalog, registry.adapters, pipeline)
        ),
        log_trimmer=LogTrimmer(
            "changes",
            position=lambda: registry.catalog.position,
            # a trim reads the whole log: not before there is a tenth more than a million tasks need
            trim=lambda keep, yield_now: registry.store.trim_log(
                keep=keep, min_new=len(registry.catalog) // 10, pause=yield_now
            ),
            keep=settings.max_log_entries,
            pause=pause,
        ),
    )
