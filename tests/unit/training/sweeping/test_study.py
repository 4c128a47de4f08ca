"""The study of a sweep on a disk that is full, or in a file that is none of Optuna's: refused, and gone on with."""

import dataclasses
from pathlib import Path

import pytest
from support.disk import full_disk
from support.sweeps import PLAN, subject_of, sweep_in

from backbone import Backbone
from training.errors import SweepFailed
from training.sweeping.sweep import sweep_here
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_ends_in_a_sentence_and_goes_on_from_all_that_ended(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    subject = subject_of(tiny, task)
    plan = dataclasses.replace(PLAN, trials=2, fixed=dataclasses.replace(PLAN.fixed, epochs=1))
    with sweep_in(tmp_path / "sweep", subject, plan) as sweep:
        sweep_here(tiny, sweep)
        before = sweep.ended()
    many = dataclasses.replace(plan, trials=100, parallel=98)
    study = tmp_path / "sweep" / "study.sqlite"
    with (
        sweep_in(tmp_path / "sweep", subject, many, resume=True) as sweep,
        full_disk(max_bytes=study.stat().st_size),
        pytest.raises(SweepFailed, match=rf"the study {study} cannot be used: .*disk.*--resume"),
    ):
        sweep.next_stack()
    few = dataclasses.replace(plan, trials=4)
    with sweep_in(tmp_path / "sweep", subject, few, resume=True) as sweep:
        assert sweep.ended() == before
        sweep_here(tiny, sweep)
        assert len(sweep.ended()) == 4


def test_a_study_that_is_no_database_is_refused(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    study = tmp_path / "sweep" / "study.sqlite"
    study.parent.mkdir()
    study.write_bytes(b"runs of a week" * 1_000)
    with (
        pytest.raises(SweepFailed, match=rf"the study {study} cannot be used: file is not a database"),
        sweep_in(tmp_path / "sweep", subject_of(tiny, task)),
    ):
        pass
    assert study.read_bytes() == b"runs of a week" * 1_000
