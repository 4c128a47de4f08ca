"""Sweeps on Ray's workers: the same trials come to the same, and a dead worker's are asked again."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle
from support import sweeps as support_sweeps
from support.sweeps import PLAN, load_or_die, subject_of, sweep_in
from support.training import lines_of

from backbone import Backbone
from training.errors import InvalidArguments
from training.sweeping.folder import read_result
from training.sweeping.on_ray import LOCAL, StackWorker, cluster, sweep_on_ray
from training.sweeping.stacks import train_trials
from training.sweeping.study import Trial
from training.sweeping.sweep import report_best
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

HALVING = dataclasses.replace(PLAN, metric="loss", pruner="halving", trials=6, parallel=3)


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A local Ray of two CPUs. Its workers cannot import what tests import: that travels too."""
    cloudpickle.register_pickle_by_value(support_sweeps)
    with cluster(LOCAL, num_cpus=2):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)  # three processes import torch: 16 s, and minutes where every core is taken
@pytest.mark.usefixtures("local_ray")
def test_trials_on_ray_come_to_what_they_come_to_here_and_a_dead_workers_are_asked_again(
    tiny: Backbone, task: TaskFile, tmp_path: Path, tiny_t5: Path, cache_dir: Path
) -> None:
    subject = subject_of(tiny, task)
    Path(task.data.train).unlink()  # the rows travel: a worker needs no file of ours
    dying = tmp_path / "dying"
    dying.touch()
    load_there = functools.partial(load_or_die, str(tiny_t5), cache_dir, dying)
    with sweep_in(tmp_path / "sweep", subject, HALVING) as sweep:
        sweep_on_ray(sweep, load_there, tiny.identity.fingerprint)
        ended = sweep.ended()
        assert (len(ended), sweep.num_lost) == (6, 3)
        assert report_best(tiny, sweep, ended[0]) is not None
    assert {trial.stop for trial in ended} == {"finished", "pruned"}
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


def test_a_worker_with_another_backbone_refuses_to_train(tiny: Backbone, task: TaskFile) -> None:
    worker = StackWorker(lambda: tiny, "sha256:another")
    with pytest.raises(InvalidArguments, match=r"fingerprint .* expected sha256:another"):
        worker.begin(subject_of(tiny, task), [])


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="no Ray cluster at 'nowhere'"), cluster("nowhere"):
        pass
