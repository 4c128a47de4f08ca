"""Where `superpos score` scores: with a server, in this process, or on a Ray cluster."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cli.backbone_options import BackboneOptions
from cli.console import CommandError, err
from cli.options import MAX_RETRIES, require_package

if TYPE_CHECKING:
    from scoring.files.opening import Reading
    from scoring.job import Estimate, Job, Watcher
    from scoring.outputs import Output
    from scoring.tasks import AnswerOptions
    from superpos_client import Client

_CONCURRENCY = 8
"""Requests of 64 rows at a time to a server."""


class Run(Protocol):
    """Scores a job."""

    def estimate(self, *, trial: bool) -> "Estimate":
        """Count the rows that are left; with `trial`, also measure the rate."""

    def run(self, watcher: "Watcher") -> None:
        """Score and save what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the rows are answered."""

    server: str
    key: str | None
    local: str | None
    """A registry; None for the server."""
    ray: str | None
    """A cluster's address; None for this process."""
    workers: int | None
    backbone: BackboneOptions
    precision: str

    def check(self) -> None:
        """Refuse options that do not go together (`CommandError`)."""
        if self.ray is None:
            if self.workers is not None:
                raise CommandError(f"--workers {self.workers} needs --ray ADDRESS, or --ray local for this machine")
            return
        if self.local is None:
            raise CommandError(
                f"--ray {self.ray} needs --local REGISTRY, with the tasks: workers run the model themselves and ask no "
                "server"
            )
        if self.ray.startswith("ray://"):
            raise CommandError(
                f"--ray {self.ray}: Ray's client protocol does not stream rows; run the command on a machine of the "
                "cluster with --ray auto, for example by 'ray job submit'"
            )
        require_package("ray", "ray", command="score --ray")


@dataclass(frozen=True, slots=True)
class Asked:
    """The tasks that the user asked for, and the columns that they read."""

    refs: Sequence[str]
    text: str | None
    columns: Mapping[str, str]


@contextmanager
def open_run(
    place: Place,
    asked: Asked,
    options: "AnswerOptions",
    inputs: Mapping[str, Path],
    output: "Output",
    reading: "Reading",
) -> Iterator[tuple["Job", Run]]:
    """Yield a job, and what scores it."""
    from scoring.job import Job
    from scoring.scorer import Scorer
    from scoring.streaming import StreamedRun
    from scoring.tasks import resolve_tasks
    from scoring.worker import CONCURRENCY

    if place.ray is not None:
        with _on_ray(place, asked, options, inputs, output, reading) as opened:
            yield opened
        return
    with _client(place) as client:
        tasks = resolve_tasks(client, asked.refs, text=asked.text, columns=asked.columns)
        concurrency = _CONCURRENCY if place.local is None else CONCURRENCY
        scorer = Scorer(client=client, tasks=tasks, options=options, concurrency=concurrency)
        with _counting(inputs):
            job = Job(tasks, options, inputs, output, reading, precision=client.readiness().precision)
        yield job, StreamedRun(job, scorer)


@contextmanager
def _on_ray(
    place: Place,
    asked: Asked,
    options: "AnswerOptions",
    inputs: Mapping[str, Path],
    output: "Output",
    reading: "Reading",
) -> Iterator[tuple["Job", Run]]:
    from adapters.registry.opening import open_registry
    from cli.targets.opening import require_registry
    from scoring.job import Job
    from scoring.on_ray import RayRun, Workers
    from scoring.worker import PortableTasks
    from training.ray_cluster import cluster

    assert place.ray is not None
    assert place.local is not None
    require_registry(place.local)
    tasks = PortableTasks.read(open_registry(place.local), asked.refs, text=asked.text, columns=asked.columns)
    with _counting(inputs):
        job = Job(tasks.tasks, options, inputs, output, reading, precision=place.precision)
    workers = Workers(
        settings=_engine_settings(place),
        threads=place.backbone.threads or 1,
        gpus=int(place.backbone.device.startswith("cuda")),
        number=place.workers,
    )
    with ExitStack() as stack:
        with err.status("connecting to Ray"):
            stack.enter_context(cluster(place.ray))
        yield job, RayRun(job, tasks, workers)


@contextmanager
def _client(place: Place) -> Iterator["Client"]:
    """Make a client of the server, or of an engine in this process."""
    from cli.targets.opening import require_registry
    from cli.targets.server import open_client
    from scoring.worker import BULK_SETTINGS
    from superpos_client import Client

    if place.local is None:
        with open_client(place.server, place.key, max_retries=MAX_RETRIES) as client:
            yield client
        return
    require_registry(place.local)
    with err.status("loading the backbone"):
        engine = Client.local(
            place.local, threads=place.backbone.threads, **{**BULK_SETTINGS, **_engine_settings(place)}
        )
    with engine as client:
        yield client


def _engine_settings(place: Place) -> dict[str, Any]:
    backbone = place.backbone
    return {
        "backbone": backbone.backbone,
        "cache_dir": backbone.cache_dir,
        "revision": backbone.revision,
        "offline": backbone.offline,
        "device": backbone.device,
        "precision": place.precision,
    }


@contextmanager
def _counting(inputs: Mapping[str, Path]) -> Iterator[None]:
    with err.status(f"reading {len(inputs)} input{'s' * (len(inputs) != 1)}"):
        yield
