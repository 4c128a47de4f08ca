"""Sweeps on Ray's workers: the same trials come to the same, also those of a worker that dies."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from ray import cloudpickle
from support import dying_worker as support_dying
from support import sweeps as support_sweeps
from support.dying_worker import dying_in_a_stack
from support.sweeps import PLAN, load_or_die, subject_of, sweep_in
from support.training import lines_of

from backbone import Backbone
from training.errors import InvalidArguments
from training.loop import checkpoint
from training.loop.events import EvalEvent
from training.ray_cluster import LOCAL, cluster
from training.sweeping import on_ray, study
from training.sweeping.folder import read_result
from training.sweeping.on_ray import Files, StackCheckpoint, StackWorker, TrainedTrial, sweep_on_ray
from training.sweeping.stacks import train_trials
from training.sweeping.study import Trial
from training.sweeping.sweep import report_best
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

PRUNED = dataclasses.replace(PLAN, metric="loss", pruner="halving", trials=6, parallel=3)


class OddPruner(optuna.pruners.BasePruner):  # type: ignore[misc]
    """Prunes every second trial after its second evaluation, whichever worker reports first."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:  # noqa: ARG002
        return trial.number % 2 == 1 and len(trial.intermediate_values) >= 2


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A local Ray of two CPUs. Its workers cannot import what tests import: that travels too."""
    for module in (support_sweeps, support_dying):
        cloudpickle.register_pickle_by_value(module)
    with cluster(LOCAL, num_cpus=2):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)  # three processes import torch: 16 s, and minutes where every core is taken
@pytest.mark.usefixtures("local_ray")
def test_trials_on_ray_come_to_what_they_come_to_here_though_two_workers_die(
    tiny: Backbone, task: TaskFile, tmp_path: Path, tiny_t5: Path, *, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker dies before its stack has a checkpoint, so that its trials are repeated, another one after it."""
    subject = subject_of(tiny, task)
    Path(task.data.train).unlink()  # the rows travel: a worker needs no file of ours
    dying = tmp_path / "dying"
    dying.touch()
    load_there = functools.partial(load_or_die, str(tiny_t5), cache_dir, dying)
    later, evaluated = tmp_path / "later", list[tuple[int, int]]()
    monkeypatch.setattr(on_ray, "StackWorker", dying_in_a_stack(later))

    def on_evaluation(trial: Trial, event: EvalEvent) -> None:
        evaluated.append((trial.number, event.step))
        if len(evaluated) == 1:
            later.touch()

    monkeypatch.setattr(study, "_pruner", lambda name: OddPruner())
    with sweep_in(tmp_path / "sweep", subject, PRUNED, on_evaluation=on_evaluation) as sweep:
        sweep_on_ray(sweep, load_there, tiny.identity.fingerprint)
        ended = sweep.ended()
        assert (len(ended), sweep.num_lost) == (6, 3)
        assert report_best(tiny, sweep, ended[0]) is not None
    assert not later.exists()
    assert len(set(evaluated)) == len(evaluated), "a repeated evaluation was reported twice"
    assert [trial.stop == "pruned" for trial in ended] == [trial.number % 2 == 1 for trial in ended]
    for trial in ended:
        folder = tmp_path / "alone" / str(trial.number)
        (alone,) = train_trials(
            tiny,
            subject,
            [Trial(trial.number, trial.arguments)],
            [folder],
            should_prune=lambda number, event, best: False,
        )
        there = tmp_path / "sweep" / "trials" / f"{trial.number:04d}"
        told = read_result(there)
        assert told is not None
        assert trial.stop == "pruned" or len(told.evaluations) == len(alone.evaluations) == 4
        for ours, theirs in zip(told.evaluations, alone.evaluations, strict=False):
            assert ours.metrics.loss == pytest.approx(theirs.metrics.loss, abs=1e-5)
            assert np.abs(ours.prompt - theirs.prompt).max() <= 1e-5 * np.abs(theirs.prompt).max()
        assert {path.name for path in folder.iterdir()} <= {path.name for path in there.iterdir()}
        assert len(lines_of(there)) == len(told.evaluations)


@pytest.mark.slow
def test_another_worker_continues_a_stack_from_its_last_checkpoint(
    tiny: Backbone, task: TaskFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_MAX_SHARE", math.inf)  # steps of milliseconds: write one after each evaluation
    subject = subject_of(tiny, task)
    trials = [Trial(number, dataclasses.replace(PLAN.fixed, lr=lr)) for number, lr in enumerate((0.01, 0.05))]

    def follow(
        worker: StackWorker, folders: dict[int, Files], *, questions: int = 1_000
    ) -> tuple[list[tuple[int, int]], list[TrainedTrial]]:
        """Answer a worker up to its results, or up to a number of questions; keep its checkpoints."""
        asked: list[tuple[int, int]] = []
        reply = worker.begin(subject, trials, dict(folders))
        while not isinstance(reply, list):
            if isinstance(reply, StackCheckpoint):
                folders.update(reply.folders)
                reply = worker.proceed()
                continue
            asked.append((reply.number, reply.event.step))
            if len(asked) == questions:
                return asked, []
            reply = worker.answer(should_prune=False)
        return asked, reply

    def a_worker() -> StackWorker:
        return StackWorker(lambda: tiny, tiny.identity.fingerprint)

    all_asked, whole = follow(a_worker(), {})
    kept: dict[int, Files] = {}
    lost, _ = follow(a_worker(), kept, questions=3)
    asked, continued = follow(a_worker(), kept)
    assert 0 < len(asked) < len(all_asked)
    assert set(lost[:2]) & set(asked) == set(), "evaluations before the checkpoint were repeated"
    assert set(lost) | set(asked) == set(all_asked)
    for ours, theirs in zip(continued, whole, strict=True):
        assert ours.result.evaluations[-1].metrics == theirs.result.evaluations[-1].metrics
        assert np.array_equal(ours.result.evaluations[-1].prompt, theirs.result.evaluations[-1].prompt)
        assert set(ours.files) == set(theirs.files)
        assert not any(name.startswith("checkpoint") for name in ours.files)


def test_a_worker_with_another_backbone_refuses_to_train(tiny: Backbone, task: TaskFile) -> None:
    worker = StackWorker(lambda: tiny, "sha256:another")
    with pytest.raises(InvalidArguments, match=r"fingerprint .* expected sha256:another"):
        worker.begin(subject_of(tiny, task), [])


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="no Ray cluster at 'nowhere'"), cluster("nowhere"):
        pass
