"""Runs in bf16, and the comparison of their prompts with int8."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.data import read_split
from support.training import QUICK, Finished

from adapters.adapter import LABEL_AGREEMENT
from backbone import Backbone, DeviceUnavailable
from backbone.precision import cpu_has_bf16
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.runs.executor import train_runs
from training.runs.plan import RunPlan
from training.scoring.adapter_answers import answers
from training.scoring.evaluation import tokenize_examples
from training.task.task_file import TaskFile


def test_training_compares_with_the_other_precisions_and_says_so(finished: Finished) -> None:
    metrics = finished.report.adapter.manifest.provenance.metrics
    measured = {name for name in LABEL_AGREEMENT if LABEL_AGREEMENT[name] in metrics}
    assert measured == ({"bf16", "int8"} if cpu_has_bf16() else {"int8"})
    for name in measured:
        assert 0 <= metrics[LABEL_AGREEMENT[name]] <= 1
        assert 0 <= metrics[f"{name}_accuracy"] <= 1


@pytest.mark.slow
def test_a_prompt_that_trained_in_bf16_is_scored_calibrated_and_compared_with_int8_in_float32(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    arguments = replace(QUICK, epochs=1)
    plan = RunPlan(task=task, arguments=arguments, folder=tmp_path / "run", precision="bf16")
    if not cpu_has_bf16():
        with pytest.raises(DeviceUnavailable, match="which this CPU lacks"):
            train_runs(tiny, [plan])
        return
    (report,) = train_runs(tiny, [plan])
    assert report.adapter is not None
    assert np.array_equal(report.measured.log_probs, answers(tiny, report.adapter, report.rows.report)), (
        "what a float32 server answers"
    )
    metrics = report.adapter.manifest.provenance.metrics
    assert set(LABEL_AGREEMENT.values()) <= metrics.keys()
    selected = report.measured.selection
    assert metrics["selection_loss"] == round(selected.loss, 6) != round(report.result.best.loss, 6)
    rows = read_split(task, split="honest", seed=0).selection
    tokenized = tokenize_examples(tiny, task.spec, rows)
    assert selected == tokenized.measured(answers(tiny, report.adapter, tokenized), task.scoring)
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["precision"] == "bf16"
    assert "--precision bf16" in run["command"]
    (exact,) = train_runs(tiny, [replace(plan, folder=tmp_path / "exact", precision="fp32")])
    assert not np.array_equal(exact.result.prompt, report.result.prompt)
    # a gradient near 0 may have the other sign in bf16, and AdamW's first steps are as long for it as for any
    assert exact.trained.loss == pytest.approx(report.trained.loss, rel=0.15)


def test_full_fine_tuning_is_in_float32_alone(task: TaskFile, tmp_path: Path) -> None:
    arguments = TrainArguments(method="full", lr=1e-5)
    with pytest.raises(InvalidArguments, match="method 'full' was asked for in bf16, expected fp32"):
        RunPlan(task=task, arguments=arguments, folder=tmp_path, precision="bf16")
