"""Loads the backbone that the settings name: for a server in a thread of its own, and in the fastest precision."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from backbone import Backbone, Precision, device_named, fastest_for_serving, load
from service.cores import switch_often, use_threads
from service.memory import release_freed
from service.settings import Settings

_log = structlog.get_logger("service")


def begin_loading(settings: Settings) -> Future[Backbone]:
    """Load a server's backbone in a thread, so that it imports and builds everything else in the meantime.

    Returns:
        the backbone once it is loaded; its `result` raises `backbone.BackboneError` if it cannot be loaded
    """
    use_threads(settings.threads)
    switch_often()
    # the end of the process waits for this thread: one that was in a tensor operation then might abort it
    thread = ThreadPoolExecutor(1, thread_name_prefix="superpos-loading")
    loading = thread.submit(_load_preferred, settings)
    thread.shutdown(wait=False)
    return loading


def _load_preferred(settings: Settings) -> Backbone:
    device = device_named(settings.device)
    return load_for_serving(
        settings, fastest_for_serving(device) if settings.precision == "auto" else settings.precision
    )


def load_for_serving(settings: Settings, precision: Precision) -> Backbone:
    """Load the backbone in a precision, without the copy of its weights that only training needs.

    Raises:
        backbone.BackboneError: it cannot be loaded
    """
    backbone = load_backbone(
        settings,
        precision,
        share_weights=settings.workers > 1,
        say=lambda line: _log.info("backbone", message=line),
    ).compact()
    release_freed()  # the checkpoint's tensors: a server in fp32 holds 0.69 instead of 0.81 GB
    return backbone


def load_backbone(
    settings: Settings,
    precision: Precision = "fp32",
    *,
    share_weights: bool = False,
    say: Callable[[str], None],
) -> Backbone:
    """Load the backbone that the settings name; arguments and errors are those of `backbone.load`."""
    return load(
        settings.backbone,
        cache_dir=settings.cache_dir,
        revision=settings.revision,
        offline=settings.offline,
        device=settings.device,
        precision=precision,
        share_weights=share_weights,
        say=say,
    )
