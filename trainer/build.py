"""Builds a trainer from the servers' settings."""

from collections.abc import Callable
from pathlib import Path

import structlog

from adapters.registry.opening import open_registry
from adapters.registry.protocol import RegistryLimits
from adapters.storage.opening import open_storage
from service.cores import use_threads
from service.jobs.queue import open_jobs
from service.loading import load_backbone
from service.settings import Settings
from service.tenancy.accounts import open_accounts
from trainer.metrics import TrainerMetrics
from trainer.worker import Trainer

_log = structlog.get_logger("trainer")


def build_trainer(settings: Settings, *, folder: Path, say: Callable[[str], None]) -> Trainer:
    """Load the backbone, open the storage and serve the metrics; nothing is trained yet.

    Args:
        settings: of the servers
        folder: for the rows and runs of the present job
        say: receives what takes long

    Raises:
        backbone.BackboneError: the backbone cannot be loaded
        InvalidName, RegistryUnavailable: the storage cannot be opened
        OSError: the port of the metrics is taken
    """
    use_threads(settings.threads)
    storage = open_storage(settings.registry, wait_s=settings.registry_wait_s)
    jobs = open_jobs(storage)
    metrics = TrainerMetrics(jobs)
    if settings.trainer_metrics_port is not None:
        port = metrics.serve(settings.trainer_metrics_host, settings.trainer_metrics_port)
        _log.info("trainer_metrics_served", host=settings.trainer_metrics_host, port=port)
    limits = RegistryLimits(aliases_per_task=settings.max_aliases_per_task, task_names=settings.max_task_names)
    backbone = load_backbone(settings, say=say)
    return Trainer(
        backbone,
        jobs,
        open_registry(storage, limits),
        open_accounts(storage).store,
        folder=folder,
        lease_s=settings.job_lease_s,
        metrics=metrics,
    )
