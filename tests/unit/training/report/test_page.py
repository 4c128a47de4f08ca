"""A report as a reader opens it: in Chromium, light and dark, from a file, with no network."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.report import chromium, relabelled, reseeded  # noqa: F401 - a fixture
from support.training import QUICK, Finished, easy_task
from support.training import run as train

from backbone import Backbone
from training.report.page import write_report

LABELS = {2: ["no", "yes"], 6: [f"kind {i}" for i in range(6)], 77: [f"card_arrival_{i}" for i in range(77)]}
BROKEN = """() => [...document.querySelectorAll("img, svg.plot")].filter(image =>
    image.tagName === "IMG" ? !image.naturalWidth : image.getBoundingClientRect().width < 100).length"""
COLOURS = """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
    getComputedStyle(document.querySelector("svg.plot text")).fill]"""
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour.strip("rgb()").split(",")[:3]) / 3


@pytest.fixture(scope="module")
def pages(tiny: Backbone, finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    run = finished.report.folder
    stack = [reseeded(run, folder / f"lr{lr}-seed{seed}", seed=seed, lr=lr) for lr in (0.1, 0.01) for seed in range(2)]
    arguments = dataclasses.replace(QUICK, max_steps=1)
    measured = train(tiny, easy_task(folder), folder / "measured", arguments, baselines=True).report
    runs = {
        **{f"{count} labels": [relabelled(run, folder / str(count), LABELS[count], rows=300)] for count in LABELS},
        "calibrated": [relabelled(run, folder / "calibrated", LABELS[2], rows=300, temperature=1.7)],
        "stack": stack,
        "baselines": [measured.folder],
    }
    for name, folders in runs.items():
        write_report(folders, folder / "reports" / name / "report.html")
    return {name: folder / "reports" / name / "report.html" for name in runs}


def opened(page: Page, path: Path) -> list[str]:
    """Open a report; what went wrong and what was asked of a network comes back."""
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    page.on(
        "request", lambda request: None if request.url in (path.as_uri(), "data:,") else trouble.append(request.url)
    )
    page.goto(path.as_uri())
    return trouble


@pytest.mark.parametrize("name", ["2 labels", "6 labels", "77 labels", "calibrated", "stack", "baselines"])
@pytest.mark.slow
def test_a_report_opens_without_errors_and_requests_and_with_every_plot(
    chromium: Browser,  # noqa: F811
    pages: dict[str, Path],
    name: str,
) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        assert opened(page, pages[name]) == []
        assert page.evaluate(BROKEN) == 0
        assert page.locator("svg.plot").count() >= 4
        assert page.evaluate(WIDER) <= 0
        assert page.locator("script, iframe, img, [onerror]").count() == 0


@pytest.mark.slow
def test_a_report_is_light_or_dark_as_its_reader_is_and_light_on_paper(
    chromium: Browser,  # noqa: F811
    pages: dict[str, Path],
) -> None:
    seen = {}
    for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
        with chromium.new_context() as context:
            page = context.new_page()
            page.emulate_media(color_scheme=scheme, media=media)
            opened(page, pages["2 labels"])
            seen[scheme, media] = [brightness(colour) for colour in page.evaluate(COLOURS)]
    for key in (("light", "screen"), ("dark", "print")):
        paper, ink, plotted = seen[key]
        assert paper > 240
        assert max(ink, plotted) < 140
    paper, ink, plotted = seen["dark", "screen"]
    assert paper < 40
    assert min(ink, plotted) > 140


@pytest.mark.slow
def test_a_report_fits_a_telephone_and_its_parts_can_be_reached(
    chromium: Browser,  # noqa: F811
    pages: dict[str, Path],
) -> None:
    with chromium.new_context(viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        assert opened(page, pages["stack"]) == []
        assert page.evaluate(WIDER) <= 0
        for link in page.locator("nav a").all():
            assert page.locator(str(link.get_attribute("href"))).count() == 1
        levels = [
            int(level)
            for level in page.evaluate("() => [...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName[1])")
        ]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        named = page.evaluate(
            "() => [...document.querySelectorAll('svg.plot')].every(s => s.querySelector('title').textContent)"
        )
        assert named
