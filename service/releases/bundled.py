"""The adapters that a server publishes into an empty registry: the bundled ones, and those that a setting lists."""

from collections.abc import Mapping

import structlog

from adapters import DEFAULT_TENANT, Registry
from adapters.files import bundled_adapters, from_files
from adapters.names import check_name
from adapters.remote import AdapterUrl
from backbone import Backbone
from service.catalog.adapter_cache import AdapterCache
from service.releases.publisher import parse_upload

_ACTOR = "bundled"
_MAX_ENTRIES = 100
"""More entries than publishing the bundled adapters makes."""
_ENTRIES_PER_TASK = 2
_log = structlog.get_logger("service")


def publish_bundled(registry: Registry, backbone: Backbone, *, num_listed: int = 0) -> None:
    """Publish the bundled adapters that fit the backbone, if the registry has never held anything else.

    If a start was interrupted between two of them, the next start publishes the rest.

    Args:
        registry: the registry
        backbone: the backbone that the server runs
        num_listed: number of adapters that `publish_listed` may have published before
    """
    if not _is_new(registry, num_listed):
        return
    present = {info.task for info in registry.list(DEFAULT_TENANT)}
    for task, files in bundled_adapters().items():
        if task in present:
            continue
        trained_for = from_files(files).manifest.backbone
        if trained_for.fingerprint == backbone.identity.fingerprint:
            registry.publish(DEFAULT_TENANT, task, files, actor=_ACTOR)
        else:
            _log.info("bundled_adapter_skipped", task=task, reason=f"it was trained for {trained_for.id}")


def publish_listed(registry: Registry, adapters: AdapterCache, listed: Mapping[str, str]) -> None:
    """Publish adapters from URLs, if the registry has never held anything but these and the bundled ones.

    A registry that has all of them is left alone, and no URL is read.

    Args:
        registry: the registry
        adapters: checks each adapter against the backbone and the server's limits
        listed: URL of each task's adapter, as `AdapterUrl` reads it

    Raises:
        InvalidName: a malformed task or URL
        InvalidAdapter: a URL cannot be read, or its adapter fails a check; the earlier ones are published
    """
    urls = {check_name("task", task): AdapterUrl.parse(url) for task, url in listed.items()}
    if not urls or not _is_new(registry, len(urls)):
        return
    present = {info.task for info in registry.list(DEFAULT_TENANT)}
    for task, url in urls.items():
        if task in present:
            continue
        files = url.read()
        digest = parse_upload(adapters, files).digest
        registry.publish(DEFAULT_TENANT, task, files, actor=_ACTOR, digest=digest)
        _log.info("listed_adapter_published", task=task, url=url.folder, digest=digest)


def _is_new(registry: Registry, num_listed: int) -> bool:
    changes = registry.changes(limit=_MAX_ENTRIES + _ENTRIES_PER_TASK * num_listed)
    return all(change.actor == _ACTOR for change in changes)
