"""A server whose registry's disk is full: it starts, serves what there is, says so, and refuses changes."""

import sys
from pathlib import Path

import httpx2
from support.adapters import make_adapter
from support.http import check_problem
from support.server_process import server_process
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone

CONSOLE_SCRIPT = Path(sys.executable).with_name("superpos")


def test_a_server_starts_on_a_full_disk_and_serves(tiny_t5: Path, tiny: Backbone, tmp_path: Path) -> None:
    place = tmp_path / "registry.sqlite"
    files = to_files(make_adapter(tiny))
    open_registry(place).publish("default", "sentiment", files, actor="test")
    full = ("sh", "-c", 'ulimit -f 0; exec "$0" "$@"', str(CONSOLE_SCRIPT))
    with server_process(tiny_t5, place, program=full) as server, httpx2.Client(base_url=server.url) as client:
        eventually(lambda: client.get("/healthz/ready").is_success, within_s=60)
        ready = client.get("/healthz/ready").json()
        assert (ready["status"], ready["degraded"], ready["tasks"]) == ("ready", False, 1)
        assert ready["read_only"]
        answer = client.post("/classify/sentiment", json={"inputs": ["a gripping film", "flat"]})
        assert len(answer.json()["predictions"]) == 2
        assert client.get("/tasks/sentiment").json()["aliases"] == {"production": 1}
        assert client.get("/tasks/sentiment/versions/1/files/superpos.json").content == files["superpos.json"]
        usage = client.get("/usage").json()
        assert "sentiment" in str(usage)
        refused = client.put("/tasks/sentiment/aliases/blue", json={"version": 1})
        check_problem(refused, 503, "registry_unavailable", "can be read but not written", "free space")
        assert str(tmp_path) not in refused.text
        assert any("registry_read_only" in line for line in server.lines)
        eventually(lambda: any(str(tmp_path) in str(entry.get("reason")) for entry in server.entries))
        assert not any("Traceback" in line for line in server.lines)
