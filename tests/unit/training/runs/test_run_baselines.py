"""Baselines of a run: in its results, its adapter, its card and its report."""

import dataclasses
import json
from pathlib import Path

import pytest
from support.training import QUICK, Finished, easy_task, run

from adapters.adapter import PromptAdapter
from adapters.baselines import TITLES, read_baselines, verdict, without_baselines
from adapters.files import CARD
from backbone import Backbone
from training.config.presets import train_arguments
from training.report.page import write_report
from training.runs.card import model_card
from training.runs.executor import BaselineEvent, Event, train_runs
from training.runs.plan import RunPlan
from training.runs.run_result import read_run_result

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def measured(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of one epoch, which a bag of words beats."""
    folder = tmp_path_factory.mktemp("measured")
    arguments = dataclasses.replace(QUICK, epochs=1, lr=1e-4)
    return run(tiny, easy_task(folder, metrics=("accuracy", "f1")), folder / "run", arguments, baselines=True)


def test_results_and_adapter_record_the_baselines(measured: Finished) -> None:
    adapter, folder = measured.report.adapter, measured.report.folder
    assert adapter is not None
    provenance = adapter.manifest.provenance
    recorded = read_baselines(provenance.metrics)
    assert [each.name for each in recorded] == list(TITLES)
    assert read_run_result(folder).baselines == tuple(recorded)
    bag_of_words = next(each for each in recorded if each.name == "tfidf")
    assert bag_of_words.figures["score"] == 1.0
    assert bag_of_words.lead.value == pytest.approx(measured.report.trained.score - 1, abs=1e-5)
    assert bag_of_words.lead.high < 0
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert str(result["baseline_tfidf"]).startswith("C = ")
    assert provenance.data["baseline_tfidf"] == result["baseline_tfidf"]


def test_the_card_says_that_the_run_loses_to_a_bag_of_words(measured: Finished) -> None:
    card = (measured.report.folder / "adapter" / CARD).read_text(encoding="utf-8")
    part = card.partition("## Baselines\n")[2].partition("\n## ")[0]
    for title in TITLES.values():
        assert f"\n| {title} | " in part
    recorded = read_baselines(measured.report.adapter.manifest.provenance.metrics)
    assert f"**{verdict(recorded)}**" in part
    assert "A bag of words does better (−" in part
    assert "| accuracy | F1 | macro F1 | score (mean of the task's) | this adapter's lead |" in part
    assert "The lead is the score of this adapter" in part


def test_an_adapter_without_baselines_has_the_card_of_before(measured: Finished) -> None:
    adapter = measured.report.adapter
    provenance = adapter.manifest.provenance.model_copy(
        update={"metrics": without_baselines(adapter.manifest.provenance.metrics)}
    )
    manifest = adapter.manifest.model_copy(update={"provenance": provenance})
    card = model_card(measured.task, PromptAdapter(adapter.prompt, manifest))
    assert "Baselines" not in card
    assert "by each metric.\n\n## Calibration\n\n" in card


def test_the_report_shows_the_baselines_and_warns_of_a_lost_comparison(measured: Finished, tmp_path: Path) -> None:
    write_report([measured.report.folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<p class="warning" role="note">' in page
    assert "A bag of words does better (−" in page
    assert "Scores on the report rows with 95 % intervals. constant answer 0." in page
    assert (tmp_path / "plots" / "baselines.svg").is_file()
    assert '<th scope="row">TF-IDF + logistic regression</th>' in page


def test_runs_of_the_same_rows_share_their_baselines_and_a_head_is_not_its_own(tiny: Backbone, tmp_path: Path) -> None:
    task = easy_task(tmp_path)
    arguments = [dataclasses.replace(QUICK, max_steps=1, lr=lr) for lr in (0.01, 0.02)]
    arguments.append(train_arguments({"method": "head"}))
    plans = [RunPlan(task=task, arguments=each, folder=tmp_path / str(number)) for number, each in enumerate(arguments)]
    fitted: list[tuple[int, str]] = []

    def hear(number: int, event: Event) -> None:
        if isinstance(event, BaselineEvent):
            fitted.append((number, event.name))

    reports = train_runs(tiny, plans, on_event=hear)
    assert fitted == [(0, name) for name in TITLES]
    recorded = [read_baselines(report.adapter.manifest.provenance.metrics) for report in reports if report.adapter]
    assert [each.figures for each in recorded[0]] == [each.figures for each in recorded[1]]
    assert [each.name for each in recorded[2]] == ["constant", "zero_shot", "tfidf"]


def test_a_run_that_was_interrupted_is_not_measured_against_baselines(tiny: Backbone, tmp_path: Path) -> None:
    def interrupt(number: int, event: Event) -> None:
        assert not isinstance(event, BaselineEvent)
        if getattr(event, "step", 0) == 2:
            raise KeyboardInterrupt

    plan = RunPlan(task=easy_task(tmp_path), arguments=QUICK, folder=tmp_path / "run")
    (report,) = train_runs(tiny, [plan], on_event=interrupt)
    assert report.result.stop == "interrupted"
    assert read_run_result(plan.folder).baselines == ()
