"""What the options of `superpos train` stand for: methods, readouts and rates side by side."""

from typing import Any

import pytest

from adapters.task import TaskSpec
from training.config.recipes import recipes
from training.errors import InvalidArguments

Names = list[tuple[str, str, float]]


def names(explicit: dict[str, Any], rates: tuple[float, ...] = (), preset: str | None = None) -> Names:
    """Method, readout and rate of each run; a head has no rate."""
    found = recipes(explicit, rates=rates, preset=preset)
    return [(each.method, each.readout, 0.0 if each.method == "head" else each.lr) for each in found]


@pytest.mark.parametrize(
    ("explicit", "rates", "runs"),
    [
        ({}, (), [("superpos", "words", 0.01)]),
        ({"readout": "words,soft"}, (0.1,), [("superpos", "words", 0.1), ("superpos", "soft", 0.1)]),
        ({"readout": "soft"}, (0.1, 0.2), [("superpos", "soft", 0.1), ("superpos", "soft", 0.2)]),
        (
            {"method": "head", "readout": "auto"},
            (),
            [("head", readout, 0.0) for readout in ("soft", "pooled", "joint")],
        ),
        (
            {"method": "auto"},
            (0.1,),
            [
                *(("head", readout, 0.0) for readout in ("soft", "pooled", "joint")),
                *(("superpos", readout, 0.1) for readout in ("words", "soft", "pooled", "joint")),
            ],
        ),
        ({"method": "auto", "readout": "pooled"}, (0.1,), [("head", "pooled", 0.0), ("superpos", "pooled", 0.1)]),
        (
            {"method": "auto", "readout": "words", "epochs": 3},
            (0.1,),
            [("head", "soft", 0.0), ("head", "pooled", 0.0), ("head", "joint", 0.0), ("superpos", "words", 0.1)],
        ),
    ],
)
def test_options_stand_for_runs(explicit: dict[str, Any], rates: tuple[float, ...], runs: Names) -> None:
    assert sorted(names(explicit, rates)) == sorted(runs)


SINGLE = TaskSpec(template="text: {text}", labels={"a": "yes", "b": "no"})
PAIR = TaskSpec(template="a: {a} b: {b}", labels={"a": "yes", "b": "no"})
MANY = TaskSpec(template="text: {text}", labels={f"l{i}": f"label {i}" for i in range(21)})


@pytest.mark.parametrize(
    ("tasks", "explicit", "preset", "readout"),
    [
        ([SINGLE], {}, None, "pooled"),
        ([PAIR], {}, None, "soft"),
        ([MANY], {}, None, "soft"),
        ([SINGLE, PAIR], {}, None, "soft"),
        ([SINGLE], {"readout": "words"}, None, "words"),
        ([SINGLE], {"loss": "full"}, None, "words"),
        ([SINGLE], {}, "paper/superpos", "words"),
        ([SINGLE], {"method": "full"}, None, "words"),
    ],
)
def test_the_readout_that_is_not_named_suits_the_task(
    tasks: list[TaskSpec], explicit: dict[str, Any], preset: str | None, readout: str
) -> None:
    (found,) = recipes(explicit, preset=preset, tasks=tasks)
    assert found.readout == readout


@pytest.mark.parametrize(
    ("explicit", "preset", "readouts"),
    [
        ({}, "fast", ["words", "soft", "pooled", "joint"]),
        ({}, "paper/full", ["words"]),
        ({"method": "superpos", "loss": "labels"}, "paper/full", ["words", "soft", "pooled", "joint"]),
        ({}, "paper/superpos", ["words"]),
        ({"loss": "labels"}, "paper/superpos", ["words", "soft", "pooled", "joint"]),
        ({"loss": "full"}, None, ["words"]),
    ],
)
def test_all_readouts_are_those_that_the_method_and_loss_of_a_preset_can_train(
    explicit: dict[str, Any], preset: str | None, readouts: list[str]
) -> None:
    found = recipes({"readout": "auto", "dropout": False} | explicit, preset=preset, tasks=[SINGLE])
    assert [each.readout for each in found] == readouts


def test_the_prompts_of_auto_follow_a_preset_and_the_heads_do_not() -> None:
    found = recipes({"method": "auto", "readout": "soft", "calibrate": "never"}, preset="fast")
    assert [(each.method, each.epochs, each.calibrate) for each in found] == [
        ("head", 10, "never"),
        ("superpos", 8, "never"),
    ]


@pytest.mark.parametrize(
    ("explicit", "preset", "said"),
    [
        ({"readout": "soft,soft"}, None, "expected each readout once"),
        (
            {"method": "auto"},
            "paper/full",
            "method 'auto' publishes an adapter, but preset 'paper/full' has the method",
        ),
        ({"method": "auto"}, "nothing", "unknown preset 'nothing'"),
        ({"method": "auto", "rank": 4}, None, "rank is 4, but method 'superpos' does not use it"),
        ({"method": "auto", "sources": ("a",)}, None, "method 'superpos' was given 1 source adapters"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    explicit: dict[str, Any], preset: str | None, said: str
) -> None:
    with pytest.raises(InvalidArguments, match=said):
        recipes(explicit, preset=preset)
