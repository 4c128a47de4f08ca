"""Sweeps in this process: what they find, prune, keep and go on with."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from support.sweeps import PLAN, subject_of, sweep_in
from support.training import SPEC, TOPICS, lines_of, topics_task

from adapters.files import from_files, read_folder
from backbone import Backbone
from training.errors import FolderInUse, InvalidArguments
from training.loop.events import EvalEvent
from training.sweeping.dimensions import Span, bases, counts, methods, numbers, readouts, values
from training.sweeping.folder import read_result, write_result
from training.sweeping.report import write_sweep_report
from training.sweeping.space import SearchSpace
from training.sweeping.stacks import train_trials
from training.sweeping.study import Trial
from training.sweeping.sweep import EndedTrial, report_best, sweep_here
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
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


@pytest.mark.slow
def test_pruned_trials_leave_their_stack_and_the_others_come_to_what_they_come_to_alone(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    plan = dataclasses.replace(PLAN, metric="loss", pruner="halving", trials=3, parallel=3)
    plan = dataclasses.replace(plan, space=dataclasses.replace(plan.space, lr=(0.01, 0.03, 0.05)))
    subject, heard = subject_of(tiny, task), list[tuple[int, int]]()
    with sweep_in(
        tmp_path / "sweep", subject, plan, on_evaluation=lambda trial, event: heard.append((trial.number, event.epoch))
    ) as sweep:
        sweep_here(tiny, sweep)
        ended = {trial.number: trial for trial in sweep.ended()}
    pruned = {number for number, trial in ended.items() if trial.stop == "pruned"}
    assert pruned
    assert len(pruned) < 3
    for number, trial in ended.items():
        told = read_result(tmp_path / "sweep" / "trials" / f"{number:04d}")
        assert told is not None
        epochs = [event.epoch for event in told.evaluations]
        assert epochs == list(range(len(epochs)))
        # neither the untrained prompt nor the last epoch is judged
        assert [epoch for who, epoch in heard if who == number] == (epochs[1:] if number in pruned else epochs[1:-1])
        assert (len(epochs) < 4) == (number in pruned)
        folder = tmp_path / "alone" / str(number)
        (alone,) = train_trials(
            tiny, subject, [Trial(number, trial.arguments)], [folder], should_prune=lambda number, event, best: False
        )
        for ours, theirs in zip(told.evaluations, alone.evaluations, strict=False):
            assert np.abs(ours.prompt - theirs.prompt).max() <= 1e-5 * np.abs(theirs.prompt).max()
        assert trial.value == told.best.loss


@pytest.mark.slow
def test_a_stack_that_was_interrupted_is_asked_again_and_no_other_trial_is(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    def interrupt(trial: Trial, event: EvalEvent) -> None:
        if trial.number == 3:
            raise KeyboardInterrupt

    subject = subject_of(tiny, task)
    with sweep_in(tmp_path / "sweep", subject, on_evaluation=interrupt) as sweep:
        with pytest.raises(KeyboardInterrupt):
            sweep_here(tiny, sweep)
        first = sweep.ended()
        assert sorted(trial.number for trial in first) == [0, 1]
    told: list[EndedTrial] = []
    with sweep_in(tmp_path / "sweep", subject, resume=True, on_end=told.append) as sweep:
        sweep_here(tiny, sweep)
        ended = sweep.ended()
    assert sorted(trial.number for trial in told) == [4, 5]
    assert sorted(trial.number for trial in ended) == [0, 1, 4, 5]
    assert [trial for trial in ended if trial.number < 2] == first


@pytest.mark.slow
def test_more_trials_may_be_asked_of_a_sweep_that_has_ended(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    subject, told = subject_of(tiny, task), list[EndedTrial]()
    few = dataclasses.replace(PLAN, trials=2, fixed=dataclasses.replace(PLAN.fixed, epochs=1))
    more = dataclasses.replace(few, trials=3, space=few.space)
    with sweep_in(tmp_path / "sweep", subject, few) as sweep:
        sweep_here(tiny, sweep)
    with sweep_in(tmp_path / "sweep", subject, more, resume=True, on_end=told.append) as sweep:
        sweep_here(tiny, sweep)
        assert [trial.number for trial in told] == [2]
        assert len(sweep.ended()) == 3


@pytest.mark.slow
def test_a_trial_that_ended_on_disk_before_it_was_told_is_kept(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    subject, told = subject_of(tiny, task), list[EndedTrial]()
    plan = dataclasses.replace(PLAN, trials=2, fixed=dataclasses.replace(PLAN.fixed, epochs=1))
    with sweep_in(tmp_path / "sweep", subject, plan) as sweep:
        (first, _) = stack = sweep.next_stack()
        folders = [sweep.folder.trial(trial.number) for trial in stack]
        results = train_trials(tiny, subject, stack, folders, should_prune=sweep.should_prune)
        write_result(folders[0], results[0])
    with sweep_in(tmp_path / "sweep", subject, plan, resume=True, on_end=told.append) as sweep:
        assert [(trial.number, trial.arguments) for trial in told] == [(0, first.arguments)]
        assert [trial.number for trial in sweep.next_stack()] == [2]


@pytest.mark.slow
def test_the_trials_of_a_resumed_sweep_are_drawn_anew(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, space=dataclasses.replace(PLAN.space, lr=Span(1e-4, 1.0)), trials=4)
    plan = dataclasses.replace(plan, fixed=dataclasses.replace(plan.fixed, epochs=1))
    subject = subject_of(tiny, task)
    for trials in (2, 4):
        with sweep_in(
            tmp_path / "sweep", subject, dataclasses.replace(plan, trials=trials), resume=trials == 4
        ) as sweep:
            sweep_here(tiny, sweep)
            ended = sweep.ended()
    rates = {trial.arguments.lr for trial in ended}
    assert len(rates) == 4
    assert all(1e-4 <= rate <= 1.0 for rate in rates)


@pytest.mark.slow
def test_stacks_that_train_at_once_are_other_trials(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, space=dataclasses.replace(PLAN.space, lr=Span(1e-4, 1.0)))
    with sweep_in(tmp_path / "sweep", subject_of(tiny, task), plan) as sweep:
        stacks = [sweep.next_stack(), sweep.next_stack(), sweep.next_stack()]
    assert [len(stack) for stack in stacks] == [2, 2, 0]
    assert len({trial.arguments.lr for stack in stacks for trial in stack}) == 4


def test_a_folder_of_another_sweep_is_refused(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    subject, folder = subject_of(tiny, task), tmp_path / "sweep"
    with (
        sweep_in(folder, subject),
        pytest.raises(FolderInUse, match="another process is using"),
        sweep_in(folder, subject, resume=True),
    ):
        pass
    with (
        pytest.raises(InvalidArguments, match="already holds a sweep; resume it with --resume"),
        sweep_in(folder, subject),
    ):
        pass
    other = dataclasses.replace(PLAN, space=dataclasses.replace(PLAN.space, lr=(0.1,)))
    with (
        pytest.raises(InvalidArguments, match=r"holds another sweep: space.lr is \[1e-06, 0.05\] there, \[0.1\]"),
        sweep_in(folder, subject, other, resume=True),
    ):
        pass
    swapped = {"label_values": {"sports": "business", "business": "sports"}}
    other_task = task.model_copy(update={"data": task.data.model_copy(update=swapped)})
    with (
        pytest.raises(
            InvalidArguments, match=r"another sweep: task.data.label_values is {} there, {'sports': 'business'"
        ),
        sweep_in(folder, dataclasses.replace(subject, task=other_task), resume=True),
    ):
        pass
    with (
        pytest.raises(InvalidArguments, match=r"another sweep: sources is \[\] there, \['sha256:1'\]"),
        sweep_in(folder, dataclasses.replace(subject, sources=("sha256:1",)), resume=True),
    ):
        pass
    with (
        pytest.raises(InvalidArguments, match="holds no sweep to resume"),
        sweep_in(tmp_path / "none", subject, resume=True),
    ):
        pass


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace(lr=(200.0,)), "lr is 200.0, expected above 0 and at most 100"),
        (SearchSpace(lr=Span(0.1, 200.0)), "lr is 200.0, expected above 0 and at most 100"),
        (SearchSpace(weight_decay=(2.0,)), "weight_decay is 2.0, expected 0 to 1"),
        (SearchSpace(batch_size=(0,)), "batch_size is 0, expected 1 to 4096"),
        (SearchSpace(num_sampled_tokens=(8, 91)), "cannot sample 91 tokens, the backbone has 90"),
        (SearchSpace(methods=("full",)), "method 'full' cannot be swept: it has no prompt"),
        (SearchSpace(methods=("head",), readouts=("pooled",)), "method 'head' cannot be swept: it is fitted"),
        (SearchSpace(readouts=("soft",), readout_dropout=(0.1, 1.0)), "readout_dropout is 1.0, expected at least 0"),
        (SearchSpace(readout_lr=Span(0.1, 1.0)), "readout_lr is 0.1:1, but readout 'words' does not use it"),
        (SearchSpace(readout_init=("fitted", "words")), "readout_init is fitted,words, but readout 'words'"),
    ],
)
def test_a_space_with_a_run_that_cannot_be_is_refused(space: SearchSpace, message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        space.check(PLAN.fixed, vocab_size=93)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (numbers, "1.0:0.1", "invalid range 1:0.1, expected 0 < low < high"),
        (numbers, "0:0.1", "invalid range 0:0.1"),
        (numbers, "a:b", "lr is 'a:b', expected low:high, or numbers"),
        (numbers, "1:2:3", "lr is '1:2:3', expected low:high, or numbers"),
        (numbers, "0.1,0.1", "lr: duplicate value in 0.1,0.1"),
        (counts, "8,x", "lr is '8,x', expected whole numbers"),
        (methods, "superpos,soup", "method is 'soup', expected one or more of superpos, simple, residual, dpt"),
        (partial(values, name="readout_lr"), "0:0.1", "invalid range 0:0.1, expected 0 < low < high"),
        (partial(values, name="warmup"), "0.2:0.1", "invalid range 0.2:0.1, expected 0 <= low < high"),
        (partial(values, name="schedule"), "cosine", "schedule is 'cosine', expected one or more of constant, linear"),
        (
            partial(readouts, spec=SPEC),
            "soft,hard",
            "readout is 'hard', expected one or more of words, soft, pooled, joint",
        ),
        (bases, "mine", "basis is 'mine', expected one or more of per_token, shared"),
    ],
)
def test_text_that_is_no_dimension_is_refused(read: Callable[..., object], text: str, message: str) -> None:
    named = (text, "lr") if read in (numbers, counts) else (text,)
    with pytest.raises(InvalidArguments, match=message):
        read(*named)


def test_the_readout_of_a_sweep_is_the_one_that_training_would_choose() -> None:
    assert readouts(None, SPEC) == ("pooled",)
    assert readouts("auto", SPEC) == ("words", "soft", "pooled", "joint")
    assert readouts("auto", TOPICS) == ("soft", "pooled", "joint")


def test_a_trial_draws_only_what_its_readout_uses() -> None:
    space = SearchSpace(
        readouts=("words", "pooled"),
        lr=(0.05,),
        readout_lr=Span(0.001, 0.1),
        readout_dropout=Span(0.0, 0.5, log=False),
        readout_init=("fitted", "words"),
        warmup=(0.0, 0.1),
    )
    learned = ("readout_lr", "readout_dropout", "readout_init")
    assert set(space.dimensions) == {"readout", "warmup", *learned}
    drawn = {"readout": "words", "warmup": 0.1}
    words = space.draw(optuna.trial.FixedTrial(drawn), PLAN.fixed)
    assert (words.readout, words.schedule, words.warmup) == ("words", "constant", 0.1)
    assert space.dimensions_of(words) == ("readout", "warmup")
    drawn = {"readout": "pooled", "warmup": 0.0, "readout_lr": 0.03, "readout_dropout": 0.0, "readout_init": "words"}
    pooled = space.draw(optuna.trial.FixedTrial(drawn), PLAN.fixed)
    assert pooled.schedule == "linear", "a trial has the defaults of its readout"
    assert {name: getattr(pooled, name) for name in drawn} == drawn
    assert set(space.dimensions_of(pooled)) == set(space.dimensions)


@pytest.mark.slow
def test_readouts_are_swept_in_one_stack_and_a_resumed_sweep_keeps_their_trials(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    space = SearchSpace(
        readouts=("words", "soft", "pooled"),
        lr=(0.05,),
        num_sampled_tokens=(32,),
        readout_lr=Span(0.001, 0.1),
        label_smoothing=(0.0, 0.1),
        schedule=("constant", "linear"),
    )
    fixed = dataclasses.replace(PLAN.fixed, epochs=1)
    plan = dataclasses.replace(PLAN, space=space, fixed=fixed, trials=6, parallel=6)
    subject = subject_of(tiny, task)
    with sweep_in(tmp_path / "sweep", subject, plan) as sweep:
        sweep_here(tiny, sweep)
        first = sweep.ended()
        write_sweep_report(sweep, first, command=None)
    assert len({trial.arguments.readout for trial in first}) > 1
    learned = {trial.number: trial.arguments for trial in first if trial.arguments.readout != "words"}
    assert len({arguments.readout_lr for arguments in learned.values()}) == len(learned)
    for number, arguments in learned.items():
        result = read_result(tmp_path / "sweep" / "trials" / f"{number:04d}")
        assert result is not None
        assert result.readout is not None
        assert result.readout.state == arguments.readout
    with sweep_in(tmp_path / "sweep", subject, dataclasses.replace(plan, trials=7), resume=True) as sweep:
        assert sweep.ended() == first
        sweep_here(tiny, sweep)
        assert len(sweep.ended()) == 7
    outcome = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    for line in outcome["trials"]:
        assert {"readout", "schedule"} <= line.keys()
        assert ({"readout_lr", "label_smoothing"} <= line.keys()) == (line["readout"] != "words")
    assert "readout_lr" in (tmp_path / "sweep" / "sweep.html").read_text(encoding="utf-8")


def test_label_words_are_no_readout_of_a_multi_label_sweep(tiny: Backbone, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, space=dataclasses.replace(PLAN.space, readouts=("pooled", "words")))
    with pytest.raises(
        InvalidArguments, match="task 'topics' is multi_label, which needs --readout soft, pooled or joint"
    ):
        subject_of(tiny, topics_task(tmp_path), plan)


def test_a_sweep_from_before_learned_readouts_goes_on_with_label_words_only(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    subject, folder = subject_of(tiny, task), tmp_path / "sweep"
    with sweep_in(folder, subject):
        pass
    written = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    del written["sweep"]["space"]["readouts"]
    (folder / "sweep.json").write_text(json.dumps(written), encoding="utf-8")
    with sweep_in(folder, subject, resume=True):
        pass
    other = dataclasses.replace(PLAN, space=dataclasses.replace(PLAN.space, readouts=("pooled",)))
    with (
        pytest.raises(InvalidArguments, match=r"space.readouts is \['words'\] there, \['pooled'\] was asked"),
        sweep_in(folder, subject, other, resume=True),
    ):
        pass


def test_a_metric_that_the_task_has_not_is_refused(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, metric="pearson")
    with (
        pytest.raises(InvalidArguments, match="metric is 'pearson', expected one of score, loss, accuracy"),
        sweep_in(tmp_path / "sweep", subject_of(tiny, task), plan),
    ):
        pass
