"""`superpos size` as a command: its table, its JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
from support.cli import superpos
from support.sizing import batch_time, coefficients

from sizing.coefficients import write

WORKLOAD = ("--tasks", "2000", "--rps", "1000", "--tokens", "40")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "ours.json"
    write(coefficients(), path)
    return path


def test_the_plan_has_replicas_cores_memory_latency_and_the_autoscalers_targets(ours: Path) -> None:
    answer = superpos("size", *WORKLOAD, "--coefficients", ours)
    assert answer.code == 0
    for line in ("replicas 12, 1 of them spare", "cores 24", "load 58% 64%", "server 1.07 GB, 2,000 adapters 100 MB"):
        assert line in answer.text.replace("│", "").replace("  ", " "), line
    for what in ("latency p50, p99", "autoscaling.queueTokens", "autoscaling.refusalsPerS", "max_queue_tokens"):
        assert what in answer.text
    assert "from coefficients of Round Number 2, 2 cores, backbone embedded, 2026-01-31" in answer.stderr


def test_json_has_the_figures_and_the_values_of_the_chart(ours: Path) -> None:
    answer = superpos("size", *WORKLOAD, "--coefficients", ours, "--json", "--p99-ms", "50")
    found = json.loads(answer.stdout)
    assert found["without_spare"]["p99_s"] <= 0.05
    assert found["chart"]["replicas"] == found["replicas"] > 12
    assert found["chart"]["autoscaling"]["queueTokens"] == found["autoscaling"]["queue_tokens"]
    assert found["memory"]["adapters_bytes"] == 100_000_000
    assert found["origin"]["processor"] == "Round Number 2"


def test_the_coefficients_of_the_package_plan_every_precision_that_they_have() -> None:
    plans = {}
    for precision in ("fp32", "int8"):
        answer = superpos("size", *WORKLOAD, "--precision", precision, "--json")
        assert answer.code == 0, answer.stderr
        plans[precision] = json.loads(answer.stdout)
        assert plans[precision]["chart"]["settings"] == {"precision": precision}
    assert plans["int8"]["replicas"] < plans["fp32"]["replicas"]


def test_what_is_uncertain_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rough.json"
    write(coefficients(batch_time(threads=1), batch_time().model_copy(update={"max_error": 0.4})), path)
    answer = superpos("size", *WORKLOAD, "--coefficients", path, "--cores", "8")
    assert "8 cores are extrapolated from 1 and 2 by Amdahl's law" in answer.stderr
    assert "differ by 40% from the coefficients: measure again on an idle machine" in answer.stderr


def test_tasks_beyond_the_memory_are_said_to_be_cold(ours: Path) -> None:
    text = superpos("size", "--tasks", "1000000", "--rps", "10", "--tokens", "40", "--coefficients", ours).text
    assert "load their adapter first (Zipf's law)" in text


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ((), "--tasks, --rps and --tokens describe the workload, expected all three; or --measure FILE"),
        (("--tasks", "10", "--rps", "5"), "--tokens missing, expected --tasks, --rps and --tokens together"),
        ((*WORKLOAD, "--measure", "a.json", "--coefficients", "b.json"), "expected one of them"),
        ((*WORKLOAD, "--coefficients", "absent.json"), "absent.json"),
        ((*WORKLOAD, "--p99-ms", "5"), "above the target of 5 ms"),
        (("--measure", "/proc/no/where.json"), "cannot write /proc/no/where.json: /proc/no is not a writable"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(words: tuple[str, ...], refusal: str) -> None:
    assert refusal in superpos("size", *words).refusal()


def test_a_precision_that_was_not_measured_is_refused_with_those_that_were(ours: Path) -> None:
    refusal = superpos("size", *WORKLOAD, "--coefficients", ours, "--precision", "int8").refusal()
    assert refusal == "precision 'int8' was not measured, expected fp32"
