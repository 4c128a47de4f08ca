"""Sweeps in this process: what they find, prune, keep and go on with."""

from pathlib import Path

import pytest
from support_sweeps import subject_of, sweep_in
from support_training import lines_of

from adapters.files import from_files, read_folder
from backbone import Backbone
from training.sweeping.here import sweep_here
from training.sweeping.sweep import EndedTrial
from training.sweeping.winner import report_best
from training.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_sweep_finds_the_better_rate_and_reports_the_best_trial_alone(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    subject, told = subject_of(tiny, task), list[EndedTrial]()
    with sweep_in(tmp_path / "sweep", subject, on_end=told.append) as sweep:
        sweep_here(tiny, sweep)
        ended = sweep.ended()
        best = ended[0]
        assert sorted(trial.number for trial in ended) == [0, 1, 2, 3]
        assert {trial.arguments.lr for trial in ended} == {1e-6, 0.05}
        assert best.arguments.lr == 0.05
        assert [best.value] + [trial.value for trial in ended[1:]] == sorted((t.value for t in told), reverse=True)
        report = report_best(tiny, sweep, best)
        assert report is not None
        assert report_best(tiny, sweep, best) is None, "the report rows were looked at twice"
    trials = tmp_path / "sweep" / "trials"
    assert [path.parent.name for path in trials.glob("*/adapter")] == [f"{best.number:04d}"]
    adapter = from_files(read_folder(trials / f"{best.number:04d}" / "adapter"))
    assert adapter.manifest.provenance.metrics["selection_accuracy"] == pytest.approx(best.value, abs=1e-6)
    for trial in ended:
        assert len(lines_of(trials / f"{trial.number:04d}")) == 4
