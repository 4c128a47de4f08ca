"""The tables, claims and page of the paper's grids, made from their results."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test
from support.paper import small_grid, two_tasks

from backbone import Backbone
from training.paper.claims import differences, sign_flip_p_value, swept_best
from training.paper.grid_folder import collect
from training.paper.markdown import rates_table, sampled_tokens_table, starts_table
from training.paper.page import render, write_page
from training.paper.plots import figures
from training.paper.published import SMALL, table1, table3
from training.paper.results import CellResult, CurvePoint, Results, read_results
from training.paper.runner import run_grid
from training.paper.tables import make_table
from training.paper.variants import ANY_STARTS, FIGURE2, RELATIVES, TABLE1, TABLE3, variants

pytestmark = pytest.mark.usefixtures("one_thread")

DOCS = Path(__file__).parents[4] / "docs"


def cell(
    variant: str, task: str, seed: int, score: float, *, selection: float = 0.5, collapsed: bool = False
) -> CellResult:
    figures = {"score": score, "constant_score": 0.25, "loss": 1.0}
    return CellResult(
        variant=variant,
        task=task,
        seed=seed,
        asked={"split": "honest", "batch_size": 16, "loss": "labels"},
        metrics=("accuracy",),
        data={"train_rows": 10, "selection_rows": 4, "report_rows": 8},
        untrained=figures | {"score": 0.3},
        selection=figures | {"score": selection},
        report=figures,
        collapsed=collapsed,
        stop="finished",
        steps=5,
        best_step=5,
        curve=(
            CurvePoint(step=0, train_loss=None, loss=1, score=0.3),
            CurvePoint(step=5, train_loss=1, loss=1, score=score),
        ),
        stack_size=1,
        seconds=1.0,
        digest="sha256:0",
    )


def grid_results(*cells: CellResult, backbone: str = "embedded") -> Results:
    return Results.model_validate(
        {
            "backbone": {"id": backbone, "revision": "", "fingerprint": "sha256:0"},
            "environment": {},
            "cells": [each.model_dump() for each in cells],
        }
    )


def test_every_table_and_figure_is_made_of_variants_that_there_are() -> None:
    known = variants(ANY_STARTS)
    assert {*TABLE1, *TABLE3, *FIGURE2, *RELATIVES} <= set(known)
    arguments = [repr(each.arguments) for each in known.values()]
    assert len(set(arguments)) == len(arguments), "two variants train the same"


def test_an_entry_is_mean_and_population_deviation_in_points_and_says_what_collapsed() -> None:
    table = make_table(
        grid_results(
            cell("superpos", "rte", 0, 0.6),
            cell("superpos", "rte", 1, 0.7),
            cell("simple", "rte", 0, 0.5, collapsed=True),
            cell("superpos", "sst2", 0, 0.9),
        ),
        ("simple", "superpos", "residual"),
    )
    assert table.tasks == ("sst2", "rte"), "the paper's order"
    assert [(line.variant, sorted(line.entries)) for line in table.lines] == [
        ("simple", ["rte"]),
        ("superpos", ["rte", "sst2"]),
    ]
    assert str(table.lines[1].entries["rte"]) == "65.0 ± 5.0"
    assert str(table.lines[0].entries["rte"]) == "50.0 ‡"
    assert table.lines[1].overall is None, "alone with all tasks, it is on no scale"
    assert table.constant == {"sst2": 25.0, "rte": 25.0}
    assert table.published == ()


@pytest.mark.parametrize("backbone", sorted({row.backbone for row in (*table1(), *table3())}))
def test_a_page_about_a_backbone_of_the_papers_does_not_say_that_it_is_none(backbone: str) -> None:
    text, _ = render({"a": grid_results(cell("superpos", "rte", 0, 0.6), backbone=backbone)}, images="i")
    assert "The paper does not use the backbone" not in text


def test_published_lines_stand_beside_the_papers_own_backbone_alone() -> None:
    cells = [cell("superpos", "rte", 0, 0.6)]
    published = make_table(grid_results(*cells, backbone=SMALL), ["superpos"]).published
    assert len(published) >= 9
    assert [row.backbone for row in published if row.backbone != SMALL] == ["gpt-3.5-turbo"]
    text, _ = render({"small": grid_results(*cells, backbone=SMALL)}, images="images")
    assert "| superpos | off | 64.6 | 70.2 |" in text
    assert "The paper does not use the backbone" not in text
    assert "published" not in render({"embedded": grid_results(*cells)}, images="images")[0].split("## embedded")[
        1
    ].replace("a published one", "")


def test_a_claim_is_held_against_runs_of_the_same_task_and_seed() -> None:
    results = grid_results(
        cell("superpos", "rte", 0, 0.6),
        cell("superpos", "rte", 1, 0.7),
        cell("superpos", "sst2", 0, 0.9),
        cell("simple", "rte", 0, 0.5, selection=0.4),
        cell("simple", "rte", 1, 0.8, selection=0.4),
        cell("simple-lr0.3", "rte", 0, 0.6, selection=0.9),
        cell("simple-lr0.3", "rte", 1, 0.4, selection=0.9),
    )
    assert swept_best(results) == "simple-lr0.3"
    found = {each.second: each for each in differences(results)}
    assert set(found) == {"simple", "simple-lr0.3"}
    assert (found["simple"].by_task, found["simple"].std) == ({"rte": pytest.approx(0)}, 0), "seeds first, then tasks"
    assert (found["simple"].num_ahead, found["simple"].num_behind, found["simple"].num_runs) == (1, 1, 2)
    assert found["simple-lr0.3"].mean == pytest.approx(15)
    assert found["simple-lr0.3"].num_ahead == 1, "a tie counts for neither"


def test_the_p_value_of_a_claim_is_the_share_of_sign_assignments_that_go_as_far() -> None:
    values = [3.0, 1.0, 2.0, -0.5, 4.0, 0.25]
    exact = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p_value(values) == pytest.approx(exact.pvalue)
    assert sign_flip_p_value([1.0] * 5) == 2 / 32, "what five tasks can say at most"


def test_an_ablation_is_compared_on_the_tasks_and_seeds_that_it_was_run_on() -> None:
    results = grid_results(
        cell("superpos", "sst2", 0, 0.8),
        cell("superpos", "sst2", 1, 0.1),
        cell("superpos", "rte", 0, 0.6),
        cell("superpos-m8", "sst2", 0, 0.7),
        cell("superpos-zeros", "rte", 0, 0.65),
    )
    assert sampled_tokens_table(results).splitlines()[2:] == ["| 8 | 70.0 | 70.0 |", "| 128 | **80.0** | 80.0 |"]
    assert starts_table(results).splitlines()[2:] == [
        "| per token, normal | 60.0 | 60.0 |",
        "| per token, zeros | **65.0** | 65.0 |",
    ]
    text, plots = render({"a": results}, images="i")
    assert "superpos-m8" not in text, "an ablation has no line among the methods"
    assert {"a-sampled_tokens.svg", "a-starts.svg"} <= set(plots)
    assert text.index("### How many tokens") < text.index("(i/a-sampled_tokens.svg)") < text.index("### How p′ starts")


def test_an_ablations_plot_has_a_panel_for_each_task_that_it_was_run_on_and_no_other() -> None:
    results = grid_results(
        *(cell(name, task, 0, 0.8) for name in ("superpos", "superpos-shared") for task in ("sst2", "rte", "trec")),
        cell("superpos-m8", "sst2", 0, 0.7),
        cell("superpos-m8", "trec", 0, 0.7),
        cell("superpos-zeros", "rte", 0, 0.65),
    )
    drawn = figures(results)
    titles = {kind: [axes.get_title(loc="left") for axes in drawn[kind].axes] for kind in ("sampled_tokens", "starts")}
    assert titles == {"sampled_tokens": ["sst2", "trec"], "starts": ["rte"]}


def test_larger_rates_of_superpos_have_a_table_of_their_own_and_no_gaps_to_fill() -> None:
    results = grid_results(
        cell("superpos", "sst2", 0, 0.8), cell("superpos", "rte", 0, 0.6), cell("superpos-lr0.1", "sst2", 0, 0.85)
    )
    assert rates_table(results).splitlines()[2:] == ["| 0.01 | 80.0 | 80.0 |", "| 0.1 | **85.0** | 85.0 |"]
    assert "missing" not in render({"a": results}, images="i")[0]


def test_a_page_says_in_what_precision_the_frozen_network_trained() -> None:
    exact, rough = cell("superpos", "rte", 0, 0.6), cell("simple", "rte", 0, 0.6)
    assert "precision" not in render({"a": grid_results(exact, rough)}, images="i")[0]
    rough = rough.model_copy(update={"precision": "bf16"})
    text, _ = render({"a": grid_results(exact, rough)}, images="i")
    assert "trained in bf16 in 1 runs, fp32 in 1 runs; report rows are always scored in fp32" in text


def test_a_page_names_the_runs_that_are_missing() -> None:
    results = grid_results(
        cell("superpos", "rte", 0, 0.6), cell("superpos", "sst2", 1, 0.6), cell("simple", "sst2", 0, 0.6)
    )
    text, _ = render({"a": results}, images="i")
    assert "Runs that are missing: simple on rte, seed 0; superpos on sst2, seed 0; " in text
    assert "simple on sst2, rte, seed 1; superpos on rte, seed 1." in text


@pytest.mark.slow
def test_the_page_of_a_grid_is_the_same_each_time_and_shows_every_plot_that_it_writes(
    tiny: Backbone, tmp_path: Path
) -> None:
    run_grid(tiny, small_grid(seeds=(0,)), two_tasks(tmp_path), tmp_path / "grid")
    results = collect(tmp_path / "grid", tiny)
    write_page(tmp_path / "results.md", {"tiny": results}, images=tmp_path / "images")
    text = (tmp_path / "results.md").read_text()
    assert render({"tiny": results}, images="images")[0] == text
    plots = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert plots == ["tiny-methods.svg", "tiny-similarity.svg"]
    assert all(f"(images/{name})" in text for name in plots)


@pytest.mark.slow
def test_the_committed_page_is_what_the_committed_results_render() -> None:
    results = {path.stem: read_results(path) for path in sorted((DOCS / "results").glob("*.json"))}
    assert results, "no results are committed"
    text, plots = render(results, images="images")
    assert (DOCS / "results.md").read_text(encoding="utf-8") == text, "run: superpos paper render docs/results/*.json"
    assert all((DOCS / "images" / name).exists() for name in plots)
