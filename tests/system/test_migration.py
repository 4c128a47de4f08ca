"""The commands of docs/migrate.md, run as they are printed: the old server is another one of ours, the base is tiny."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import make_adapter
from support.cli import CONSOLE_SCRIPT
from support.server import RunningServer

from backbone import Backbone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall((ROOT / "docs/migrate.md").read_text(encoding="utf-8"))
HERE, OLD = "http://127.0.0.1:8080", "http://tei-topic:8080"


def run(words: list[str], folder: Path, backbone: Path) -> str:
    """Run a command in a folder; what it printed. The tiny base has fewer tokens than a prompt is sampled from."""
    words = [*words, "--num-sampled-tokens", "16"] if "train" in words and "head" not in words else words
    environment = {**os.environ, "SUPERPOS_BACKBONE": str(backbone), "SUPERPOS_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def commands(block: str) -> list[list[str]]:
    """The commands of a block, without their comments."""
    lines = [line.partition("  #")[0].split() for line in block.splitlines()]
    return [[str(CONSOLE_SCRIPT) if word == "superpos" else word for word in line] for line in lines]


def rows(count: int) -> str:
    films = {"good": "a gripping film", "bad": "flat and overlong"}
    return "text,label\n" + "".join(f"{films[label]} {n},{label}\n" for n in range(count // 2) for label in films)


def test_rows_are_labelled_by_the_old_server_and_a_task_is_trained_and_published(
    serve: Callable[..., RunningServer], tiny: Backbone, tiny_t5: Path, tmp_path: Path
) -> None:
    server = serve()
    server.upload("old", make_adapter(tiny))
    (tmp_path / "texts.txt").write_text("a gripping film\nflat and overlong\n", encoding="utf-8")
    (python, script), (shell, block), *_ = BLOCKS
    assert (python, shell) == ("python", "sh")
    assert OLD in script
    run([sys.executable, "-c", script.replace(OLD, f"{server.url}/tei/old")], tmp_path, tiny_t5)
    labelled = (tmp_path / "topic.csv").read_text(encoding="utf-8").splitlines()
    assert labelled[0] == "text,label"
    assert [line.rpartition(",")[2] in ("negative", "positive") for line in labelled[1:]] == [True, True]
    (tmp_path / "topic.csv").write_text(rows(80), encoding="utf-8")  # a model of random numbers labels nothing well
    for words in commands(block.replace(HERE, server.url)):
        run(words, tmp_path, tiny_t5)
    answer = server.client.post("/tei/topic/predict", json={"inputs": "a gripping film"})
    assert answer.status_code == 200, answer.text
    assert {each["label"] for each in answer.json()} == {"good", "bad"}


def test_rows_of_another_library_train_heads_and_prompts(tiny_t5: Path, tmp_path: Path) -> None:
    (tmp_path / "emails.csv").write_text(rows(80), encoding="utf-8")
    (block,) = [text for language, text in BLOCKS if language == "sh" and "emails.csv" in text]
    for words in commands(block):
        assert "0." in run(words, tmp_path, tiny_t5), "scores"


def test_every_command_of_the_page_is_one_that_is_run() -> None:
    assert [language for language, _ in BLOCKS] == ["python", "sh", "sh"]
