"""`superpos score` as a command: its lines, refusals and report, with a server and in this process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.adapters import SENTIMENT, make_adapter
from support.cli import CONSOLE_SCRIPT, superpos
from support.scoring import lines_of, text_of, write_csv
from support.server import RunningServer
from support.waiting import eventually

from adapters import DEFAULT_TENANT
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone


def test_a_file_is_scored_and_a_second_run_has_nothing_to_do(shared_server: RunningServer, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "a.csv", 40, column="body"), tmp_path / "out.csv"
    arguments = ("score", "sentiment", path, "--text", "body", "--out", out, "--server", shared_server.url)
    answer = superpos(*arguments)
    assert answer.code == 0
    assert answer.stdout == f"40 rows in {out}\n"
    assert "40 rows in 1 file at " in answer.stderr
    assert "a.csv: 40 rows" in answer.stderr
    before = out.stat().st_mtime_ns
    again = superpos(*arguments)
    assert (again.code, again.stdout, again.stderr) == (0, answer.stdout, "")
    assert out.stat().st_mtime_ns == before


def test_labels_give_metrics_and_a_report(shared_server: RunningServer, tmp_path: Path) -> None:
    lines = ["sentence,gold", *(f"{text_of(n)},{n % 2}" for n in range(60)), '"open,1', ""]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    out = tmp_path / "out.csv"
    answer = superpos(
        *("score", "sentiment", tmp_path / "a.csv", "--out", out, "--server", shared_server.url),
        *("--label-column", "gold", "--label-value", "0=negative", "--label-value", "1=positive"),
    )
    assert answer.code == 0
    assert "accuracy" in answer.text
    assert f"report: {out}.report.html" in answer.text
    assert "right \\ given (sentiment)" in answer.text
    assert "Worst rows" in Path(f"{out}.report.html").read_text()
    assert f"1 rejected, with the reasons in {out}.rejected.jsonl" in answer.stderr
    assert lines_of(Path(f"{out}.rejected.jsonl"))[0]["place"] == "line 62, column 1"


def test_an_estimate_is_printed_and_nothing_is_written(shared_server: RunningServer, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 100)
    answer = superpos(
        "score", "sentiment", path, "--out", tmp_path / "out.csv", "--server", shared_server.url, "--estimate"
    )
    assert answer.stdout.startswith("100 rows in 1 file at ")
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.csv", "--out", "o.csv"), "expected a task before the inputs, got a.csv"),
        (("sentiment", "--out", "o.csv"), "expected an input after sentiment"),
        (("sentiment", "a.csv", "nothing", "--out", "o/"), "nothing: no such file or folder; tasks come before"),
        (("sentiment", "sentiment", "a.csv", "--out", "o.csv"), "the tasks sentiment sentiment repeat one"),
        (("sentiment", "a.csv", "--out", "o.csv", "--column", "body"), "--column body: expected NAME=VALUE"),
        (("sentiment", "missing.csv", "--out", "o.csv"), "missing.csv: no such file or folder"),
        (
            ("sentiment", "pair", "a.csv", "--out", "o.csv", "--label-column", "gold"),
            "--label-column gold: expected NAME=VALUE",
        ),
        (("sentiment", "a.csv", "--out", "o.csv", "--local", "none.sqlite"), "registry none.sqlite: no such file"),
        (("nope", "a.csv", "--out", "o.csv"), "(404 not_found)"),
        (("sentiment", "a.csv", "--out", "o.csv", "--workers", "2"), "--workers 2 needs --ray ADDRESS"),
        (("sentiment", "a.csv", "--out", "o.csv", "--ray", "auto"), "--ray auto needs --local REGISTRY"),
        (
            ("sentiment", "a.csv", "--out", "o.csv", "--ray", "ray://head:10001", "--local", "r.sqlite"),
            "Ray's client protocol does not stream rows; run the command on a machine of the cluster",
        ),
    ],
)
def test_refusals_say_what_is_wrong(
    shared_server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "a.csv", 3)
    assert message in superpos("score", *arguments, "--server", shared_server.url).refusal()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.slow
def test_the_engine_of_this_process_writes_the_same_bytes_as_a_server(
    shared_server: RunningServer, tiny: Backbone, tiny_t5: Path, tmp_path: Path, cache_dir: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", 60)
    registry = tmp_path / "registry.sqlite"
    open_registry(str(registry)).publish(
        DEFAULT_TENANT, "sentiment", to_files(make_adapter(tiny, SENTIMENT)), actor="test"
    )
    options = ("--backbone", tiny_t5, "--cache-dir", cache_dir, "--threads", "1")
    local = superpos("score", "sentiment", path, "--out", tmp_path / "local.csv", "--local", registry, *options)
    assert local.code == 0, local.stderr
    assert superpos("score", "sentiment", path, "--out", tmp_path / "http.csv", "--server", shared_server.url).code == 0
    assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "http.csv").read_bytes()


@pytest.mark.slow
def test_scoring_with_a_server_does_not_import_torch(shared_server: RunningServer, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", 5)
    program = (
        "import sys\nfrom cli.main import app\n"
        f"app(['score', 'sentiment', {str(path)!r}, '--out', {str(tmp_path / 'out.csv')!r}, "
        f"'--server', {shared_server.url!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_control_c_says_how_to_continue(shared_server: RunningServer, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "a.csv", 6_000), tmp_path / "out.csv"
    command = [CONSOLE_SCRIPT, "score", "sentiment", path, "--out", out, "--part-rows", "100"]
    process = subprocess.Popen(
        [*command, "--server", shared_server.url],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    folder = tmp_path / "out.csv.parts/a.csv.d"
    eventually(lambda: process.poll() is not None or (folder / "000003.100.csv").exists(), within_s=60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "the same command continues there" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    assert (folder / "000003.100.csv").exists()
