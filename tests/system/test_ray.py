"""Files scored on two nodes of a Ray cluster, with a worker killed on the way, are those that a server scores."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import superpos
from support.ray_nodes import two_nodes, worker_processes
from support.scoring import text_of
from support.server import RunningServer
from support.waiting import eventually

pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data")  # of its own settings


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with two_nodes() as address:
        yield address


def kill_a_worker_after(parts: Path, count: int) -> threading.Thread:
    """Kill a worker once a number of parts are saved."""

    def kill() -> None:
        eventually(lambda: len(list(parts.glob("a.csv.d/*.csv"))) >= count, within_s=60)
        worker_processes("PartScorer")[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.timeout(600)  # five processes import torch: 20 s, and minutes where every core is taken
def test_a_cluster_scores_the_bytes_of_a_server_though_a_worker_is_killed(
    address: str, shared_server: RunningServer, tmp_path: Path, tiny_t5: Path, cache_dir: Path
) -> None:
    lines = [f"{n},{text_of(n)}" for n in range(1_500)]
    lines[7], lines[900], lines[1_200] = "7,", "900,a,b", "1200," + "word " * 200
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("\n".join(["id,sentence", *lines, ""]))
    (tmp_path / "in/b.csv").write_text("\n".join(["id,sentence", *lines[:40], ""]))
    (tmp_path / "in/none.csv").write_text("id,sentence\n")
    files = ("sentiment", tmp_path / "in", "--part-rows", "20", "--out")
    there = ("--local", shared_server.settings.registry, "--ray", address, "--workers", "2", "--price", "0.5")
    backbone = ("--backbone", tiny_t5, "--cache-dir", cache_dir)
    killing = kill_a_worker_after(tmp_path / "ray/_parts", 5)
    answer = superpos("score", *files, tmp_path / "ray", *there, *backbone)
    killing.join()
    assert answer.code == 0, answer.stderr
    assert f"1,540 rows in {tmp_path / 'ray'}\n" in answer.stdout  # next to Ray's message of the dead worker
    assert "1,540 rows in 3 files at " in answer.stderr
    assert " rows/s by 2 workers: 0:" in answer.stderr
    assert " at 0.5 per core-hour" in answer.stderr
    assert superpos("score", *files, tmp_path / "http", "--server", shared_server.url).code == 0
    written = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix != ".json"}
        for name in ("ray", "http")
    }
    assert written["ray"] == written["http"]
    assert sorted(written["ray"]) == ["a.csv", "a.csv.rejected.jsonl", "b.csv", "b.csv.rejected.jsonl", "none.csv"]
    again = superpos("score", *files, tmp_path / "ray", *there, *backbone)
    assert (again.code, again.stderr) == (
        0,
        "4 rejected, with the reasons in " + f"{tmp_path / 'ray'}/*.rejected.jsonl\n",
    )
