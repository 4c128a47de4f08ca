"""Many prompts in one packed batch: each comes to what it would have come to alone."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from support import TOPIC
from support_training import QUICK, SPEC, easy_rows
from torch import Tensor
from torch.optim import SGD

from backbone import Backbone
from training.arguments import TrainArguments, make_method
from training.methods import Method, ParameterGroup
from training.rows.data import Example
from training.scoring.evaluation import tokenize_examples
from training.scoring.metrics import Metrics
from training.stack.events import EvalEvent, StepEvent, TrainResult
from training.stack.loop import MAX_PASS_TOKENS, train, train_stack
from training.stack.slot import Slot

pytestmark = pytest.mark.usefixtures("one_thread")

FIFTY_STEPS = dataclasses.replace(QUICK, epochs=10, batch_size=12)
"""Of 60 rows: 5 steps an epoch."""


@dataclasses.dataclass
class Broken:
    """A method whose prompt is no number from the third step on."""

    method: Method
    calls: int = 3

    @property
    def sampled_token_ids(self) -> tuple[int, ...]:
        return self.method.sampled_token_ids

    def prompt(self) -> Tensor:
        self.calls -= 1
        return self.method.prompt() * (1 if self.calls >= 0 else math.nan)

    def parameter_groups(self) -> list[ParameterGroup]:
        return self.method.parameter_groups()

    def state(self) -> dict[str, Tensor]:
        return self.method.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.method.load_state(state)


def make_slot(backbone: Backbone, arguments: TrainArguments, *, topic: bool = False, broken: bool = False) -> Slot:
    """A slot of its own rows; `topic` gives it a task with other labels, more of them and longer."""
    spec = TOPIC if topic else SPEC
    label_of = {name: index for index, name in enumerate(spec.label_names)}
    examples = [Example(f"text: {row['text']}", label_of[row["label"]]) for row in easy_rows(84, seed=arguments.seed)]
    method = make_method(arguments, backbone.weights.embedding)
    return Slot(
        method=Broken(method) if broken else method,
        arguments=arguments,
        trie=backbone.label_trie(spec.label_words),
        rows=tokenize_examples(backbone, spec, examples[:60]),
        selection=tokenize_examples(backbone, spec, examples[60:]),
    )


def different(**changes: object) -> TrainArguments:
    return dataclasses.replace(FIFTY_STEPS, **changes)


MIXED = [
    (different(), False),
    (different(seed=7, lr=0.01), False),
    (different(seed=1, basis="shared"), False),
    (different(method="simple", lr=0.3, num_virtual_tokens=3), False),
    (different(seed=3, lr=0.02, weight_decay=0.01), True),
]


def alone(backbone: Backbone, slot: Slot) -> TrainResult:
    return train(backbone, slot.method, slot.arguments, trie=slot.trie, rows=slot.rows, selection=slot.selection)


def assert_same(together: TrainResult, apart: TrainResult) -> None:
    assert together.stop == apart.stop
    assert len(together.evaluations) == len(apart.evaluations)
    for ours, theirs in zip(together.evaluations, apart.evaluations, strict=True):
        scale = np.abs(theirs.prompt).max()
        assert np.abs(ours.prompt - theirs.prompt).max() <= 1e-5 * scale
        assert ours.metrics.accuracy == theirs.metrics.accuracy


def test_a_stack_of_other_seeds_rates_methods_and_tasks_is_as_many_runs_apart(tiny: Backbone) -> None:
    results = train_stack(tiny, [make_slot(tiny, arguments, topic=topic) for arguments, topic in MIXED])
    for (arguments, topic), result in zip(MIXED, results, strict=True):
        assert result.stop == "finished"
        assert np.abs(result.evaluations[-1].prompt - result.evaluations[0].prompt).max() > 1e-2, "nothing was learnt"
        assert_same(result, alone(tiny, make_slot(tiny, arguments, topic=topic)))


def test_a_slot_whose_loss_is_no_number_leaves_the_others_as_they_would_be(tiny: Backbone) -> None:
    sound = [different(epochs=2), different(epochs=2, seed=5)]
    slots = [make_slot(tiny, sound[0]), make_slot(tiny, different(seed=9), broken=True), make_slot(tiny, sound[1])]
    first, broken, last = train_stack(tiny, slots)
    assert broken.stop == "diverged"
    assert np.isfinite(broken.prompt).all()
    for arguments, result in zip(sound, (first, last), strict=True):
        assert_same(result, alone(tiny, make_slot(tiny, arguments)))


def test_a_slot_that_has_had_its_epochs_leaves_the_stack(tiny: Backbone) -> None:
    steps: dict[str, list[StepEvent]] = {"short": [], "long": []}
    short = dataclasses.replace(make_slot(tiny, different(epochs=1)), on_step=steps["short"].append)
    long = dataclasses.replace(make_slot(tiny, different(epochs=3, seed=2)), on_step=steps["long"].append)
    results = train_stack(tiny, [short, long])
    assert [result.stop for result in results] == ["finished", "finished"]
    assert [len(told) for told in steps.values()] == [5, 15]
    assert [event.rows for event in steps["short"]] == [12] * 5


def test_slots_that_do_not_fit_one_pass_are_as_many_runs_apart_too(tiny: Backbone) -> None:
    # a low rate: AdamW's first step has the rate's size also where the gradient is nothing but rounding
    arguments = [different(epochs=1, seed=seed, batch_size=60, num_virtual_tokens=100, lr=1e-3) for seed in range(3)]
    assert MAX_PASS_TOKENS["cpu"] < 60 * 100 * 2
    for values, result in zip(arguments, train_stack(tiny, [make_slot(tiny, a) for a in arguments]), strict=True):
        assert_same(result, alone(tiny, make_slot(tiny, values)))


def test_an_interrupt_ends_all_and_keeps_the_best_of_each(tiny: Backbone) -> None:
    def interrupt(event: EvalEvent) -> None:
        if event.epoch == 2:
            raise KeyboardInterrupt

    slots = [
        make_slot(tiny, different(seed=4)),
        dataclasses.replace(make_slot(tiny, different()), on_evaluation=interrupt),
        make_slot(tiny, different(seed=6, epochs=1)),
    ]
    results = train_stack(tiny, slots)
    assert [result.stop for result in results] == ["interrupted", "interrupted", "finished"]
    assert [len(result.evaluations) for result in results] == [3, 3, 2]


def test_a_hopeless_slot_leaves_the_stack_and_the_others_as_they_would_be(tiny: Backbone) -> None:
    asked: list[tuple[int, Metrics]] = []

    def is_hopeless(event: EvalEvent, best: Metrics) -> bool:
        asked.append((event.epoch, best))
        return event.epoch == 2

    sound = [different(epochs=3), different(epochs=3, seed=5)]
    steps: list[StepEvent] = []
    hopeless = dataclasses.replace(
        make_slot(tiny, different(epochs=3, seed=9)), is_hopeless=is_hopeless, on_step=steps.append
    )
    first, pruned, last = train_stack(tiny, [make_slot(tiny, sound[0]), hopeless, make_slot(tiny, sound[1])])
    assert (pruned.stop, len(pruned.evaluations), len(steps)) == ("pruned", 3, 10)
    best = max(pruned.evaluations[:2], key=lambda event: (event.metrics.score, -event.metrics.loss))
    assert asked == [(1, best.metrics), (2, pruned.best)]
    for arguments, result in zip(sound, (first, last), strict=True):
        assert_same(result, alone(tiny, make_slot(tiny, arguments)))


def test_a_step_split_over_passes_has_the_gradient_of_its_whole(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = different(epochs=1, batch_size=60, lr=1e-3)
    (whole,) = train_stack(tiny, [make_slot(tiny, arguments)])
    monkeypatch.setitem(MAX_PASS_TOKENS, "cpu", 50)  # three rows, or four
    (split,) = train_stack(tiny, [make_slot(tiny, arguments)])
    assert_same(split, whole)
    assert split.evaluations[1].train_loss == pytest.approx(whole.evaluations[1].train_loss, rel=1e-6)


def test_slots_of_other_batch_sizes_take_their_own_steps(tiny: Backbone) -> None:
    steps: list[StepEvent] = []
    sizes = [60, 7, 1]
    slots = [
        dataclasses.replace(make_slot(tiny, different(epochs=1, batch_size=size)), on_step=steps.append)
        for size in sizes
    ]
    train_stack(tiny, slots)
    assert sorted(event.rows for event in steps) == sorted([60] + [7] * 8 + [4] + [1] * 60)


def test_patience_ends_a_slot_that_gets_no_better(tiny: Backbone) -> None:
    hopeless = make_slot(tiny, different(epochs=50, patience=3, lr=1e-9))
    (result,) = train_stack(tiny, [hopeless])
    assert result.stop == "patience"
    assert len(result.evaluations) == 1 + result.best_index + 3


def test_steps_can_be_limited_and_evaluated_in_the_middle_of_an_epoch(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [make_slot(tiny, different(epochs=50, max_steps=11, eval_every=4))])
    assert result.stop == "finished"
    assert [event.step for event in result.evaluations] == [0, 4, 8, 11]
    assert [event.epoch for event in result.evaluations] == [0, 1, 2, 3]
    assert result.best_step == result.evaluations[result.best_index].step


def test_more_steps_than_the_epochs_have_change_nothing(tiny: Backbone) -> None:
    (result,) = train_stack(tiny, [make_slot(tiny, different(epochs=2, max_steps=1_000))])
    assert [event.step for event in result.evaluations] == [0, 5, 10]


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
        tiny, [make_slot(tiny, arguments), make_slot(tiny, different(method="simple", max_steps=1))]
    )
    lengths = [np.linalg.norm(run.evaluations[1].prompt - run.evaluations[0].prompt) for run in (clipped, other)]
    assert lengths[1] > 1e-2, "the other slot's gradient is its own"
    assert lengths[0] == pytest.approx(lengths[1] if clip is None else clip, rel=5e-2)
