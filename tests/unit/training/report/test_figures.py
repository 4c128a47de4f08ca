"""The figures of reports: what is drawn, and that it is the same text every time."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.text import Annotation

from training.report import style
from training.report.figures import (
    Curve,
    cosine_similarity,
    heat_map,
    learning_curves,
    lines_with_band,
    mean_and_deviation,
    similarity_maps,
)
from training.report.svg import inline_svg, png, svg

STEPS = np.array([0.0, 10.0, 20.0])
SEEDS = [
    Curve("lr 0.1", STEPS, np.array([0.2, 0.4, 0.6])),
    Curve("lr 0.1", STEPS, np.array([0.4, 0.6, 0.8])),
    Curve("lr $1 <b>", STEPS, np.array([0.5, 0.5, 0.61])),
]


def texts(file: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(file).iter("{http://www.w3.org/2000/svg}text")]


def test_the_mean_of_runs_that_end_at_other_steps_reads_each_between_its_points() -> None:
    curves = [SEEDS[0], Curve("lr 0.1", np.array([0.0, 20.0]), np.array([0.0, 1.0]))]
    x, mean, deviation = mean_and_deviation(curves)
    assert x.tolist() == [0, 10, 20]
    assert mean.tolist() == pytest.approx([0.1, 0.45, 0.8])
    assert deviation.tolist() == pytest.approx([0.1, 0.05, 0.2])


def test_every_group_of_lines_is_named_at_its_end_and_no_two_names_touch() -> None:
    figure = learning_curves(SEEDS, SEEDS, score_name="accuracy", reference=("constant answer", 0.6))
    names = [text for text in figure.axes[0].texts if text.get_text()]
    assert {text.get_text() for text in names} == {"lr 0.1", "lr $1 <b>", "constant answer"}
    heights = sorted(text.get_window_extent().y0 for text in names)
    tall = names[0].get_window_extent().height
    assert all(upper - lower >= 0.9 * tall for lower, upper in itertools.pairwise(heights))


def test_a_figure_is_the_same_file_every_time_and_its_words_are_text() -> None:
    first, second = (svg(learning_curves(SEEDS, SEEDS, score_name="accuracy, selection rows")) for _ in range(2))
    assert first == second
    assert "lr $1 <b>" in texts(first)
    assert "accuracy, selection rows" in texts(first)
    assert png(learning_curves(SEEDS, SEEDS, score_name="accuracy")).startswith(b"\x89PNG")


def test_in_a_page_a_figure_has_no_colour_and_no_id_of_its_own() -> None:
    element = inline_svg(svg(learning_curves(SEEDS, SEEDS, score_name="x")), name="curves", description="A <curve>")
    assert "A &lt;curve&gt;" in element
    assert set(re.findall(r"#[0-9a-f]{6}\b", element)) <= {"#ffffff", "#000000"}
    assert set(re.findall(r"var\(--(\w+)\)", element)) <= set(style.DARK)
    ids = re.findall(r'\bid="([^"]+)"', element)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("curves-") for name in ids)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', element))
    assert used <= set(ids)


def test_both_themes_have_every_colour() -> None:
    assert style.LIGHT.keys() == style.DARK.keys()


def test_similarity_is_the_cosine_and_zero_for_a_vector_of_zeros() -> None:
    vectors = np.array([[1, 0], [1, 1], [-2, 0], [0, 0]], dtype=np.float32)
    similarity = cosine_similarity(vectors)
    assert similarity[0].tolist() == pytest.approx([1, 0.5**0.5, -1, 0])
    assert similarity[3].tolist() == [0, 0, 0, 0]


def test_a_cells_strength_is_its_value_and_its_hue_the_sign() -> None:
    _, (axes,) = style.panels(1)
    heat_map(axes, [[1.0, -0.5], [0.0, 0.25]], numbers=[["a", ""], ["", "b"]])
    cells = {(patch.get_x(), patch.get_y()): patch for patch in axes.patches}
    assert {place: cell.get_alpha() for place, cell in cells.items()} == {(0, 0): 1, (1, 0): 0.5, (1, 1): 0.25}
    assert cells[0, 0].get_facecolor()[:3] != cells[1, 0].get_facecolor()[:3]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


@pytest.mark.slow
def test_there_is_a_similarity_map_for_each_run() -> None:
    weights = {f"run {i}": np.random.default_rng(i).normal(size=(10, 16)).astype(np.float32) for i in range(5)}
    figure = similarity_maps(weights, columns=4)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(weights)


def test_an_ablation_has_its_own_values_as_ticks() -> None:
    _, (axes,) = style.panels(1)
    sizes = np.array([8.0, 64.0, 256.0])
    lines_with_band(axes, [Curve("sst2", sizes, sizes / 256)], x_label="sampled tokens m", log_x=True)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "64", "256"]


def test_the_names_of_lines_that_end_at_the_top_stay_in_their_panel() -> None:
    figure, (axes,) = style.panels(1, width=5.1, height=3.0, right=1.5)
    curves = [Curve(f"run {i}", np.array([0.0, 1.0]), np.array([0.0, 90.0 + i / 10])) for i in range(6)]
    lines_with_band(axes, curves, x_label="step")
    places = [text.xy[1] for text in axes.texts if isinstance(text, Annotation)]
    assert len(places) == 6
    assert max(places) <= axes.get_ylim()[1]
    assert min(np.diff(sorted(places))) >= 0.08 * np.ptp(axes.get_ylim())
    assert figure is not None
