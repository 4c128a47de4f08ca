"""Many prompts in one packed batch: each comes to what it would have come to alone."""

import dataclasses

import numpy as np
import pytest
import torch
from support.stack import alone, assert_same, different, make_job
from torch.optim import SGD

from backbone import Backbone
from training.loop.events import EvalEvent, StepEvent
from training.loop.train import MAX_PASS_TOKENS, train_stack
from training.scoring.metrics import Metrics

pytestmark = pytest.mark.usefixtures("one_thread")

"""Of 60 rows: 5 steps an epoch."""


MIXED = [
    (different(), False),
    (different(seed=7, lr=0.01), False),
    (different(seed=1, basis="shared"), False),
    (different(method="simple", lr=0.3, num_virtual_tokens=3), False),
    (different(seed=3, lr=0.02, weight_decay=0.01), True),
]


@pytest.mark.slow
def test_a_stack_of_other_seeds_rates_methods_and_tasks_is_as_many_runs_apart(tiny: Backbone) -> None:
    results = train_stack(tiny, [make_job(tiny, arguments, topic=topic) for arguments, topic in MIXED])
    for (arguments, topic), result in zip(MIXED, results, strict=True):
        assert result.stop == "finished"
        assert np.abs(result.evaluations[-1].prompt - result.evaluations[0].prompt).max() > 1e-2, "nothing was learnt"
        assert_same(result, alone(tiny, make_job(tiny, arguments, topic=topic)))


@pytest.mark.slow
def test_a_job_whose_loss_is_no_number_leaves_the_others_as_they_would_be(tiny: Backbone) -> None:
    sound = [different(epochs=2), different(epochs=2, seed=5)]
    jobs = [make_job(tiny, sound[0]), make_job(tiny, different(seed=9), broken=True), make_job(tiny, sound[1])]
    first, broken, last = train_stack(tiny, jobs)
    assert broken.stop == "diverged"
    assert np.isfinite(broken.prompt).all()
    for arguments, result in zip(sound, (first, last), strict=True):
        assert_same(result, alone(tiny, make_job(tiny, arguments)))


def test_a_job_that_has_had_its_epochs_leaves_the_stack(tiny: Backbone) -> None:
    steps: dict[str, list[StepEvent]] = {"short": [], "long": []}
    short = dataclasses.replace(make_job(tiny, different(epochs=1)), on_step=steps["short"].append)
    long = dataclasses.replace(make_job(tiny, different(epochs=3, seed=2)), on_step=steps["long"].append)
    results = train_stack(tiny, [short, long])
    assert [result.stop for result in results] == ["finished", "finished"]
    assert [len(told) for told in steps.values()] == [5, 15]
    assert [event.rows for event in steps["short"]] == [12] * 5


@pytest.mark.slow
def test_jobs_that_do_not_fit_one_pass_are_as_many_runs_apart_too(tiny: Backbone) -> None:
    # a low rate: AdamW's first step has the rate's size also where the gradient is nothing but rounding
    arguments = [different(epochs=1, seed=seed, batch_size=60, num_virtual_tokens=100, lr=1e-3) for seed in range(3)]
    assert MAX_PASS_TOKENS["cpu"] < 60 * 100 * 2
    for values, result in zip(arguments, train_stack(tiny, [make_job(tiny, a) for a in arguments]), strict=True):
        assert_same(result, alone(tiny, make_job(tiny, values)))


@pytest.mark.slow
def test_an_interrupt_ends_all_and_keeps_the_best_of_each(tiny: Backbone) -> None:
    def interrupt(event: EvalEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    jobs = [
        make_job(tiny, different(seed=4)),
        dataclasses.replace(make_job(tiny, different()), on_evaluation=interrupt),
        make_job(tiny, different(seed=6, epochs=1)),
    ]
    results = train_stack(tiny, jobs)
    assert [result.stop for result in results] == ["interrupted", "interrupted", "finished"]
    assert [len(result.evaluations) for result in results] == [3, 3, 2]


@pytest.mark.slow
def test_a_hopeless_job_leaves_the_stack_and_the_others_as_they_would_be(tiny: Backbone) -> None:
    asked: list[tuple[int, Metrics]] = []

    def should_prune(event: EvalEvent, best: Metrics) -> bool:
        asked.append((event.epoch, best))
        return event.epoch == 2

    sound = [different(epochs=3), different(epochs=3, seed=5)]
    steps: list[StepEvent] = []
    hopeless = dataclasses.replace(
        make_job(tiny, different(epochs=3, seed=9)), should_prune=should_prune, on_step=steps.append
    )
    first, pruned, last = train_stack(tiny, [make_job(tiny, sound[0]), hopeless, make_job(tiny, sound[1])])
    assert (pruned.stop, len(pruned.evaluations), len(steps)) == ("pruned", 3, 10)
    best = max(pruned.evaluations[:2], key=lambda event: (event.metrics.score, -event.metrics.loss))
    assert asked == [(1, best.metrics), (2, pruned.best)]
    for arguments, result in zip(sound, (first, last), strict=True):
        assert_same(result, alone(tiny, make_job(tiny, arguments)))


@pytest.mark.slow
def test_a_step_split_over_passes_has_the_gradient_of_its_whole(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = different(epochs=1, batch_size=60, lr=1e-3)
    (whole,) = train_stack(tiny, [make_job(tiny, arguments)])
    monkeypatch.setitem(MAX_PASS_TOKENS, "cpu", 50)  # three rows, or four
    (split,) = train_stack(tiny, [make_job(tiny, arguments)])
    assert_same(split, whole)
    assert split.evaluations[1].train_loss == pytest.approx(whole.evaluations[1].train_loss, rel=1e-6)


@pytest.mark.slow
def test_jobs_of_other_batch_sizes_take_their_own_steps(tiny: Backbone) -> None:
    steps: list[StepEvent] = []
    sizes = [60, 7, 1]
    jobs = [
        dataclasses.replace(make_job(tiny, different(epochs=1, batch_size=size)), on_step=steps.append)
        for size in sizes
    ]
    train_stack(tiny, jobs)
    assert sorted(event.rows for event in steps) == sorted([60] + [7] * 8 + [4] + [1] * 60)


@pytest.mark.slow
def test_patience_ends_a_job_that_gets_no_better(tiny: Backbone) -> None:
    hopeless = make_job(tiny, different(epochs=50, patience=3, lr=1e-9))
    (result,) = train_stack(tiny, [hopeless])
    assert result.stop == "patience"
    assert len(result.evaluations) == 1 + result.best_index + 3


def test_steps_can_be_limited_and_evaluated_in_the_middle_of_an_epoch(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [make_job(tiny, different(epochs=50, max_steps=11, eval_every=4))])
    assert result.stop == "finished"
    assert [event.step for event in result.evaluations] == [0, 4, 8, 11]
    assert [event.epoch for event in result.evaluations] == [0, 1, 2, 3]
    assert result.best_step == result.evaluations[result.best_index].step


def test_more_steps_than_the_epochs_have_change_nothing(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [make_job(tiny, different(epochs=2, max_steps=1_000))])
    assert [event.step for event in result.evaluations] == [0, 5, 10]


def test_few_rows_are_passed_over_until_the_minimum_of_steps_with_as_many_evaluations(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [make_job(tiny, different(epochs=3, min_steps=20))])
    assert [event.step for event in result.evaluations] == [0, 7, 14, 20]
    (result,) = train_stack(tiny, [make_job(tiny, different(epochs=3, min_steps=20, max_steps=8))])
    assert [event.step for event in result.evaluations] == [0, 5, 8]
    (result,) = train_stack(tiny, [make_job(tiny, different(epochs=3, min_steps=15))])
    assert [event.step for event in result.evaluations] == [0, 5, 10, 15]


class Watched(SGD):
    """Takes plain gradient steps in the place of AdamW, which divides the gradient's length away."""

    def __init__(self, params: object, **_: object) -> None:
        super().__init__(params, lr=1.0)


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_a_clipped_step_is_no_longer_than_it_may_be(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, clip: float | None
) -> None:
    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    arguments = different(method="simple", epochs=1, max_steps=1, clip=clip)
    clipped, other = train_stack(
        tiny, [make_job(tiny, arguments), make_job(tiny, different(method="simple", max_steps=1))]
    )
    lengths = [np.linalg.norm(run.evaluations[1].prompt - run.evaluations[0].prompt) for run in (clipped, other)]
    assert lengths[1] > 1e-2, "the other job's gradient is its own"
    assert lengths[0] == pytest.approx(lengths[1] if clip is None else clip, rel=5e-2)
