"""The precision that is chosen if none is asked for."""

import json
from pathlib import Path

import pytest
import torch

from backbone import check_device, fastest_for_training
from training.config.choices import MethodName
from training.runs.automatic_precision import automatic_precision, begun_precision


def test_the_fastest_precision_is_one_that_the_device_computes_in() -> None:
    device = torch.device("cpu")
    check_device(device, fastest_for_training(device))


@pytest.mark.parametrize(
    ("methods", "preset", "why"),
    [
        ({"full", "superpos"}, None, "method full needs it"),
        ({"head"}, None, "a head takes no steps"),
        ({"superpos"}, "paper/superpos", "preset paper/superpos"),
    ],
)
def test_runs_that_bf16_does_not_suit_are_in_float32(methods: set[MethodName], preset: str | None, why: str) -> None:
    precision, reason = automatic_precision(["cpu"], methods, preset=preset)
    assert precision == "fp32"
    assert why in reason


def test_other_runs_are_in_the_fastest_precision_of_the_device() -> None:
    fastest = fastest_for_training(torch.device("cpu"))
    assert automatic_precision(["cpu"], {"superpos", "head"}, preset="fast")[0] == fastest


def test_the_precision_of_a_begun_run_is_read_from_its_folder(tmp_path: Path) -> None:
    assert begun_precision([tmp_path]) is None
    (tmp_path / "run.json").write_text(json.dumps({"precision": "bf16"}), encoding="utf-8")
    assert begun_precision([tmp_path / "none", tmp_path]) == "bf16"
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert begun_precision([tmp_path]) == "fp32", "the only one before runs recorded it"
