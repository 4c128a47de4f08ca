"""What benchmarks share: a result that a program can read."""

import json

import pytest

from benchmarks.common.report import machine, print_result


def test_the_last_line_of_a_benchmark_is_one_json_object_with_its_figures_and_its_machine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print("a table for people")
    print_result("fairness", {"p99_ms": 1.5}, detail={"rounds": [1, 2]})
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {
        "benchmark": "fairness",
        "figures": {"p99_ms": 1.5},
        "machine": machine(),
        "detail": {"rounds": [1, 2]},
    }
    assert {"commit", "device", "threads", "torch", "transformers"} <= result["machine"].keys()


def test_a_figure_that_is_no_number_is_not_reported() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_result("fairness", {"p99_ms": float("nan")})
