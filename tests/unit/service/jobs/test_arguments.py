"""What a server refuses of a job's arguments: exactly that which the trainer would refuse later."""

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from adapters import Label, TaskSpec
from service.errors import InvalidRequest
from service.jobs.arguments import check_arguments, check_metrics
from training.config.recipes import recipes
from training.errors import InvalidArguments
from training.runs.plan import check_kind
from training.task.scoring import METRIC_NAMES
from training.task.task_file import TaskFile

METHODS = (None, "auto", "superpos", "simple", "residual", "dpt", "head")
READOUTS = (None, "auto", "words", "soft", "pooled", "joint")
VALUES: dict[str, Any] = {
    "epochs": 2,
    "max_steps": 5,
    "batch_size": 8,
    "lr": 0.1,
    "num_virtual_tokens": 5,
    "num_sampled_tokens": 16,
    "patience": 0,
    "class_weights": True,
    "label_smoothing": 0.1,
    "abstain_precision": 0.9,
    "seed": 3,
}


def task(kind: str, num_labels: int = 2) -> TaskSpec:
    labels = tuple(Label(name=str(number), words=f"word {number}") for number in range(num_labels))
    return TaskSpec.model_validate({"template": "text: {text}", "labels": labels, "kind": kind})


def trains(arguments: dict[str, Any], spec: TaskSpec) -> bool:
    """Whether a trainer makes runs of these arguments, as it does in `trainer.execution`."""
    explicit = {name: value for name, value in arguments.items() if name != "lr"}
    rates = [arguments["lr"]] if "lr" in arguments else []
    data = {"train": "rows.jsonl", "label": "label"}
    metrics = ("micro_f1",) if spec.is_multi_label else ("accuracy",)
    file = TaskFile.model_validate({"name": "task", "spec": spec, "metrics": metrics, "data": data})
    try:
        for made in recipes(explicit, rates=rates, tasks=[spec]):
            check_kind(file, made)
    except InvalidArguments:
        return False
    return True


def is_accepted(arguments: dict[str, Any], spec: TaskSpec) -> bool:
    try:
        check_arguments(arguments, spec)
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
@pytest.mark.parametrize("method", METHODS)
def test_a_server_refuses_the_arguments_that_a_trainer_refuses_and_no_others(method: str | None, kind: str) -> None:
    spec, seen = task(kind), set()
    for readout, name in product(READOUTS, (None, *VALUES)):
        chosen = {"method": method, "readout": readout} | ({} if name is None else {name: VALUES[name]})
        arguments = {each: value for each, value in chosen.items() if value is not None}
        assert is_accepted(arguments, spec) == trains(arguments, spec), arguments
        seen.add(is_accepted(arguments, spec))
    assert seen == {True, False}


def test_what_is_refused_has_its_name_its_value_and_what_was_expected() -> None:
    with pytest.raises(InvalidRequest, match=r"arguments\.epochs is 3, expected only method, readout, seed, .* 'head'"):
        check_arguments({"method": "head", "epochs": 3}, task("single_label"))
    with pytest.raises(InvalidRequest, match=r"arguments\.num_sampled_tokens is 9, expected none .* 'dpt'"):
        check_arguments({"method": "dpt", "num_sampled_tokens": 9}, task("single_label"))
    with pytest.raises(InvalidRequest, match=r"task\.positive is 'x', expected one of 0, 1"):
        check_metrics(["f1"], "x", task("single_label"))


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "ordinal"])
@pytest.mark.parametrize("num_labels", [2, 3])
def test_a_server_refuses_the_metrics_that_a_task_file_refuses_and_no_others(kind: str, num_labels: int) -> None:
    spec, data = task(kind, num_labels), {"train": "rows.jsonl", "label": "label"}
    named = [name for name in METRIC_NAMES if name != "exact_match"]  # jobs do not offer it
    choices = [(name,) for name in named] + [("accuracy", "accuracy"), ("accuracy", "f1"), ("macro_f1", "micro_f1")]
    for metrics, positive in product(choices, (None, "1", "other")):
        values = {"name": "task", "spec": spec, "metrics": metrics, "positive": positive, "data": data}
        try:
            TaskFile.model_validate(values)
            is_valid = True
        except ValidationError:
            is_valid = False
        try:
            check_metrics(metrics, positive, spec)
            accepted = True
        except InvalidRequest:
            accepted = False
        assert accepted == is_valid, (metrics, positive)
