"""Presets: published recipes, under what is asked for and over the methods' own defaults."""

from dataclasses import asdict
from typing import Any

import pytest
from support.cli import superpos

from cli.main import load_command
from training.config.arguments import ARGUMENTS, NUM_SOURCES, TrainArguments, default_of, option_of
from training.config.choices import MethodName
from training.config.presets import DEFAULT_MIN_STEPS, DEFAULT_PATIENCE, PRESETS, train_arguments
from training.errors import InvalidArguments
from training.runs.provenance import train_command


def sources_of(preset: str) -> dict[str, Any]:
    """A source for a preset whose method needs one."""
    return {"sources": ("a",)} if PRESETS[preset].values["method"] in NUM_SOURCES else {}


def test_every_preset_makes_arguments_and_says_its_source() -> None:
    assert set(PRESETS) == {
        "paper/superpos",
        "paper/simple",
        "lester/simple",
        "paper/residual",
        "paper/attempt",
        "paper/full",
        "vu/spot",
        "wang/mpt",
        "qin/ipt",
        "zhong/panda",
        "hu/lora",
        "houlsby/adapter",
        "fast",
    }
    for name, preset in PRESETS.items():
        arguments = train_arguments(sources_of(name), preset=name)
        assert all(getattr(arguments, field) == value for field, value in preset.values.items())
        assert preset.source


@pytest.mark.parametrize(
    ("name", "lr", "weight_decay"),
    [
        ("paper/superpos", 0.01, 1e-5),
        ("paper/simple", 0.01, 0.01),
        ("paper/residual", 0.3, 0.01),
        ("paper/full", 1e-5, 0.0),
    ],
)
def test_the_papers_rates_are_those_of_its_section_3_4(name: str, lr: float, weight_decay: float) -> None:
    arguments = train_arguments({}, preset=name)
    assert (arguments.lr, arguments.weight_decay) == (lr, weight_decay)
    assert (arguments.num_virtual_tokens, arguments.epochs, arguments.loss) == (10, 80, "full")


def test_what_is_explicit_wins_over_the_preset_and_that_over_the_methods_default() -> None:
    assert train_arguments({"lr": 0.7}, preset="paper/simple").lr == 0.7
    assert train_arguments({}, preset="paper/simple").lr == 0.01
    assert train_arguments({"method": "simple"}).lr == default_of("lr", "simple") == 0.3
    assert train_arguments({}).method == "superpos"


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArguments, match=r"unknown preset 'papers'; expected one of paper/superpos, .*fast"):
        train_arguments({}, preset="papers")


def test_the_command_lists_presets_with_their_sources() -> None:
    done = superpos("train", "--preset", "help")
    assert done.code == 0
    for name in PRESETS:
        assert name in done.stdout


def test_an_option_that_the_method_has_no_use_for_is_refused_but_a_presets_own_is_not() -> None:
    with pytest.raises(InvalidArguments, match="rank is 4, but method 'simple' does not use it, only dpt, lora"):
        train_arguments({"rank": 4}, preset="paper/simple")
    assert train_arguments({"method": "simple"}, preset="paper/superpos").num_virtual_tokens == 10


@pytest.mark.parametrize("method", ["simple", "dpt", "full", "one_shot"])
def test_the_command_of_a_run_names_no_option_that_it_would_refuse(method: MethodName) -> None:
    arguments = TrainArguments(method=method, num_sampled_tokens=32, rank=4, softmax=True)
    command = train_command(arguments, split="honest", limit=None, backbone="embedded", revision="")
    assert "--num-sampled-tokens" not in command
    assert "--softmax" not in command
    assert ("--rank 4" in command) == (method == "dpt")


def test_every_argument_is_an_option_of_train_and_a_run_with_sources_can_be_repeated() -> None:
    train = load_command("train")
    options = {name for parameter in train.params for name in parameter.opts}
    assert {option_of(name) for name in ARGUMENTS} <= options
    arguments = TrainArguments(method="mixture", sources=("a", "b"))
    command = train_command(arguments, split="honest", limit=None, backbone="embedded", revision="")
    assert "--source a --source b" in command


def test_a_value_that_is_not_a_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(InvalidArguments, match="basis is 'each', expected one of per_token, shared"):
        train_arguments({"basis": "each"})


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.partition("/")[1]])
def test_published_recipes_have_no_early_stopping(preset: str) -> None:
    assert train_arguments(sources_of(preset), preset=preset).patience is None


def test_the_presets_of_the_paper_are_the_papers() -> None:
    common = {"num_virtual_tokens": 10, "epochs": 80, "loss": "full", "readout": "words", "patience": None}
    own: dict[str, dict[str, object]] = {
        "superpos": {"lr": 0.01, "weight_decay": 1e-5, "num_sampled_tokens": 128, "basis": "per_token"},
        "simple": {"lr": 0.01, "weight_decay": 0.01},
        "residual": {"lr": 0.3, "weight_decay": 0.01, "bottleneck": 128},
        "attempt": {"lr": 0.3, "weight_decay": 1e-5, "bottleneck": 100},
        "full": {"lr": 1e-5, "dropout": True},
    }
    for name, values in own.items():
        sources: dict[str, Any] = {"sources": ("a",)} if name == "attempt" else {}
        arguments = asdict(train_arguments(sources, preset=f"paper/{name}"))
        assert {key: arguments[key] for key in common | values} == common | values, name


def test_other_runs_take_a_minimum_of_steps_unless_told_how_long_to_train() -> None:
    assert train_arguments({}).min_steps == DEFAULT_MIN_STEPS
    assert train_arguments({}, preset="paper/superpos").min_steps == 0
    assert train_arguments({"method": "head"}).min_steps == 0
    named: dict[str, Any] = {"split": "honest", "limit": None, "backbone": "embedded", "revision": ""}
    for explicit, told in (
        ({}, False),
        ({"epochs": 3}, False),
        ({"max_steps": 3}, False),
        ({"epochs": 3, "min_steps": 7}, True),
        ({"min_steps": 0}, True),
        ({"epochs": 10}, True),  # the default number of epochs is not named
    ):
        arguments = train_arguments(explicit)
        assert arguments.min_steps == explicit.get("min_steps", 0 if explicit else DEFAULT_MIN_STEPS)
        command = train_command(arguments, **named)
        assert (f"--min-steps {arguments.min_steps}" in command) == told, command


def test_other_runs_stop_early_unless_told_not_to() -> None:
    assert train_arguments({}).patience == DEFAULT_PATIENCE
    assert train_arguments({"patience": 2}).patience == 2
    assert train_arguments({"patience": 0}).patience is None
    assert train_arguments({"method": "head"}).patience is None
    named: dict[str, Any] = {"split": "honest", "limit": None, "backbone": "embedded", "revision": ""}
    assert "--patience" not in train_command(train_arguments({}), **named)
    assert "--patience 2" in train_command(train_arguments({"patience": 2}), **named)
    assert "--patience 0" in train_command(train_arguments({"patience": 0}), **named)
    assert "--patience" not in train_command(train_arguments({"method": "head"}), **named)


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("wang/mpt", {"num_virtual_tokens": 100, "lr": 0.3, "factor_lr": 0.4, "loss": "full"}),
        ("vu/spot", {"num_virtual_tokens": 100, "lr": 0.3, "batch_size": 32, "max_steps": 30_000, "loss": "full"}),
        ("qin/ipt", {"num_virtual_tokens": 100, "batch_size": 4, "clip": 0.1, "warmup": 0.06, "loss": "full"}),
        (
            "zhong/panda",
            {"num_virtual_tokens": 20, "distillation": 0.1, "lr": 0.007, "batch_size": 16, "dropout": True},
        ),
        ("hu/lora", {"rank": 8, "lr": 5e-4, "warmup": 0.06, "schedule": "linear"}),
        ("houlsby/adapter", {"bottleneck": 64, "lr": 3e-4, "warmup": 0.1, "schedule": "linear"}),
    ],
)
def test_the_presets_of_the_papers_relatives_are_theirs(preset: str, values: dict[str, object]) -> None:
    arguments = train_arguments(sources_of(preset), preset=preset)
    assert {name: getattr(arguments, name) for name in values} == values
