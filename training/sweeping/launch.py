"""Start of a sweep: its task's rows, its folder, and the processes that train its stacks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backbone import Backbone
from training.data.splits import Split
from training.loop.events import EvalEvent
from training.runs.adapter_folder import read_sources
from training.runs.plan import check_kind
from training.runs.task_rows import TaskRows
from training.sweeping.folder import SweepFolder
from training.sweeping.stacks import SweepTask
from training.sweeping.study import Trial
from training.sweeping.sweep import EndedTrial, Sweep, SweepPlan, described, sweep_here
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class RayWorkers:
    """Ray workers that train the stacks."""

    address: str
    load: Callable[[], Backbone]
    """Runs on a worker."""
    device: str
    threads: int | None


def read_sweep_task(
    backbone: Backbone, task: TaskFile, plan: SweepPlan, *, split: Split, limit: int | None
) -> SweepTask:
    """Read and tokenise the rows of all trials.

    Raises:
        InvalidArguments: the search space does not fit the backbone or the task
        InvalidData: a data file or row is invalid
    """
    plan.space.check(plan.fixed, vocab_size=backbone.weights.embedding.shape[0])
    for arguments in plan.space.variants(plan.fixed):
        check_kind(task, arguments)
    rows = TaskRows(backbone, task).divided(split=split, seed=plan.fixed.seed, limit=limit)
    sources = tuple(source.digest for source in read_sources(backbone, plan.fixed.sources))
    return SweepTask(task, rows, split, limit, sources)


@contextmanager
def open_sweep(
    plan: SweepPlan,
    task: SweepTask,
    folder: Path,
    *,
    fingerprint: str,
    resume: bool,
    on_evaluation: Callable[[Trial, EvalEvent], None] = lambda trial, event: None,
    on_end: Callable[[Sweep, EndedTrial], None] = lambda sweep, trial: None,
) -> Iterator[Sweep]:
    """Open a sweep in its folder, locked until the end; arguments and errors as `Sweep` and `SweepFolder`."""
    files = SweepFolder(folder, described(plan, task, fingerprint=fingerprint), resume=resume)
    try:
        sweep = Sweep(plan, task, files, on_evaluation=on_evaluation, on_end=on_end)
        try:
            yield sweep
        finally:
            sweep.close()
    finally:
        files.close()


def train_sweep(backbone: Backbone, sweep: Sweep, workers: RayWorkers | None) -> None:
    """Train until no trial is left, in this process or on Ray workers."""
    if workers is None:
        sweep_here(backbone, sweep)
        return
    from training.ray_cluster import cluster  # noqa: PLC0415 - Ray is an extra
    from training.sweeping.on_ray import sweep_on_ray  # noqa: PLC0415

    with cluster(workers.address):
        sweep_on_ray(
            sweep,
            workers.load,
            backbone.identity.fingerprint,
            threads=workers.threads or 1,
            gpus=int(workers.device.startswith("cuda")),
        )
