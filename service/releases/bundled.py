"""The adapters that come with the package, published into an empty registry."""

import structlog

from adapters import DEFAULT_TENANT, Registry
from adapters.files import bundled_adapters, from_files
from backbone import Backbone

_log = structlog.get_logger("service")


def publish_bundled(registry: Registry, backbone: Backbone) -> None:
    """Publish the bundled adapters that fit the backbone, if the registry has never held anything."""
    if registry.changes(limit=1):
        return
    for task, files in bundled_adapters().items():
        trained_for = from_files(files).manifest.backbone
        if trained_for.fingerprint == backbone.identity.fingerprint:
            registry.publish(DEFAULT_TENANT, task, files, actor="bundled")
        else:
            _log.info("bundled_adapter_skipped", task=task, reason=f"it was trained for {trained_for.id}")
