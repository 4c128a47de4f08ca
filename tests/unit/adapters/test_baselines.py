"""Baselines in an adapter's provenance: written, read back, and told in plain sentences."""

import pytest

from adapters.baselines import (
    Baseline,
    BaselineName,
    Lead,
    baseline_figures,
    is_unbeaten,
    read_baselines,
    verdict,
    without_baselines,
)


def baseline(name: BaselineName, value: float, low: float, high: float) -> Baseline:
    figures = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "score": 0.8, "loss": 0.5}
    return Baseline(name=name, figures=figures, lead=Lead(value, low, high))


BEATEN = [baseline("constant", 0.4, 0.3, 0.5), baseline("tfidf", 0.1, 0.02, 0.2), baseline("head", 0.05, 0.01, 0.1)]


def test_baselines_are_read_back_from_the_figures_of_an_adapter() -> None:
    figures = {"report_accuracy": 0.9, **baseline_figures(BEATEN)}
    assert figures["baseline_tfidf_lead_low"] == 0.02
    assert read_baselines(figures) == BEATEN
    assert without_baselines(figures) == {"report_accuracy": 0.9}


def test_an_adapter_of_before_has_no_baselines_and_no_verdict() -> None:
    assert read_baselines({"report_accuracy": 0.9, "baseline_head_score": 0.8}) == []
    assert verdict([]) == ""
    assert not is_unbeaten([])


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (
            baseline("head", 0.05, 0.01, 0.1),
            "The classifier beats every baseline; the closest is a head on the frozen model "
            "(+0.050, 95 % interval +0.010 to +0.100).",
        ),
        (
            baseline("head", -0.05, -0.1, -0.01),
            "A head on the frozen model does better (−0.050, 95 % interval −0.100 to −0.010). "
            "Publish the head: it trains in seconds (superpos train --method head).",
        ),
        (
            baseline("head", 0.0, -0.01, 0.01),
            "A head on the frozen model does as well (+0.000, 95 % interval −0.010 to +0.010). "
            "Publish the head: it trains in seconds (superpos train --method head).",
        ),
        (
            baseline("head", 0.02, -0.01, 0.05),
            "These rows do not show that the classifier beats a head on the frozen model "
            "(+0.020, 95 % interval −0.010 to +0.050). The head trains in seconds; prefer it, or measure both on more "
            "rows.",
        ),
        (
            baseline("tfidf", -0.01, -0.03, 0.01),
            "A bag of words does as well (−0.010, 95 % interval −0.030 to +0.010).",
        ),
    ],
)
def test_the_verdict_goes_by_the_paired_interval(last: Baseline, told: str) -> None:
    baselines = [*BEATEN[:2], last] if last.name == "head" else [BEATEN[0], last]
    assert verdict(baselines) == told
    assert is_unbeaten(baselines) == (not told.startswith("The classifier beats every"))
