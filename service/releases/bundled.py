"""The adapters that come with the package, published into an empty registry."""

import structlog

from adapters import DEFAULT_TENANT, Registry
from adapters.files import bundled_adapters, from_files
from backbone import Backbone

_ACTOR = "bundled"
_MAX_ENTRIES = 100
"""More entries than publishing the bundled adapters makes."""
_log = structlog.get_logger("service")


def publish_bundled(registry: Registry, backbone: Backbone) -> None:
    """Publish the bundled adapters that fit the backbone, if the registry has never held anything else.

    If a start was interrupted between two of them, the next start publishes the rest.
    """
    if any(change.actor != _ACTOR for change in registry.changes(limit=_MAX_ENTRIES)):
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
