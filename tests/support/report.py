"""What tests of reports build with: folders of runs with other labels and rows, and a Chromium to open pages in."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from training.data.examples import Example
from training.runs.folder import RunFolder
from training.scoring.predictions import predictions_table

EVIL = "<script>alert('$x$')</script><img src=http://example.test/x> & 漢字"


def relabelled(run: Path, into: Path, names: list[str], *, rows: int, temperature: float = 1.0, seed: int = 0) -> Path:
    """A copy of a run's folder with other labels and with random answers, half of them right."""
    shutil.copytree(run, into)
    draw = np.random.default_rng(seed)
    labels = draw.integers(len(names), size=rows)
    logits = (
        draw.normal(size=(rows, len(names))) + 3 * np.eye(len(names))[labels] * draw.integers(2, size=rows)[:, None]
    )
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    examples = [
        Example(f"text: row {i} {EVIL}", int(label), None, {"text": f"row {i} {EVIL}"})
        for i, label in enumerate(labels)
    ]
    RunFolder(into, resume=True).write_predictions(predictions_table(examples, names, log_probs))
    made = json.loads((into / "run.json").read_text(encoding="utf-8"))
    made["task"]["spec"]["labels"] = [{"name": name, "words": f"w {i}"} for i, name in enumerate(names)]
    (into / "run.json").write_text(json.dumps(made), encoding="utf-8")
    result = json.loads((into / "result.json").read_text(encoding="utf-8"))
    result["calibration"]["temperature"] = temperature
    (into / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return into


def reseeded(run: Path, into: Path, *, seed: int, lr: float) -> Path:
    """A copy of a run's folder that says to be of another seed and rate, its scores a little lower."""
    shutil.copytree(run, into)
    made = json.loads((into / "run.json").read_text(encoding="utf-8"))
    made["arguments"] |= {"seed": seed, "lr": lr}
    (into / "run.json").write_text(json.dumps(made), encoding="utf-8")
    result = json.loads((into / "result.json").read_text(encoding="utf-8"))
    result["metrics"]["selection_score"] -= 0.01 * (seed + 1)
    (into / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return into


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window. Installed where apt may; missed loudly, in CI an error."""
    program = shutil.which("chromium") or _installed()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def _installed() -> str:
    """Chromium needs packages of its own, so it is installed, not unpacked: apt does that as root alone."""
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    try:
        if os.geteuid() != 0:
            raise FileNotFoundError("apt-get installs as root alone")
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run([*apt, *command], check=True, capture_output=True, timeout=280, env=environment)
    except (OSError, subprocess.SubprocessError) as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"chromium is not on PATH and cannot be installed: {exc}")
    program = shutil.which("chromium")
    assert program is not None
    return program
