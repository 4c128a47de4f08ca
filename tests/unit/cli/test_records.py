"""`superpos history` and `superpos usage`, and what the command tells a server of what it sends."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.adapters import make_adapter
from support.cli import superpos
from support.proxy import Proxy
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters import Traffic
from adapters.files import to_files, write_folder
from backbone import Backbone

Serve = Callable[..., RunningServer]


def rows(table: str) -> list[list[str]]:
    """The cells of a table that was printed, without its head."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]


@pytest.mark.slow
def test_a_history_is_the_same_from_a_server_and_from_its_registry(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    digests = [server.upload("sst2", make_adapter(tiny, seed=seed))["adapter"][:19] for seed in range(2)]
    server.registry.set_traffic("default", "sst2", Traffic(canary=1, percent=5, shadow=1), actor="cli")
    server.registry.set_traffic("default", "sst2", Traffic(), actor="cli")
    server.registry.set_alias("default", "sst2", "blue", 1, actor="cli")
    server.registry.delete_alias("default", "sst2", "blue", actor="cli")
    server.registry.delete("default", "sst2", 1, actor="cli")
    over_http = superpos("history", "sst2", "--from", server.url)
    assert over_http.code == 0, over_http.stderr
    assert over_http.stdout == superpos("history", "sst2", "--from", server.settings.registry).stdout
    found = rows(over_http.stdout)
    assert [cells[1:] for cells in found] == [
        ["http", "published", "1", digests[0]],
        ["http", "alias production set", "1", digests[0]],
        ["http", "published", "2", digests[1]],
        ["http", "alias production set", "2", digests[1]],
        ["cli", "canary 1 gets 5 %, shadow 1", "", ""],
        ["cli", "canary and shadow ended", "", ""],
        ["cli", "alias blue set", "1", digests[0]],
        ["cli", "alias blue removed", "1", digests[0]],
        ["cli", "deleted", "1", digests[0]],
    ]
    at = datetime.strptime(found[0][0], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=10)
    assert rows(superpos("history", "sst2", "--last", 2, "--from", server.url).stdout) == found[-2:]
    for place in (server.url, server.settings.registry):
        assert "no task 'nothing'" in superpos("history", "nothing", "--from", place).refusal()


@pytest.mark.slow
def test_usage_is_told_to_whom_it_concerns_as_a_table_and_as_lines(serve: Serve, tiny: Backbone) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    keyring.tenant("acme")
    ours = keyring.key("acme", "publish")
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
    server.client.post("/tasks/sst2/versions", files=parts, headers=bearer(ours)).raise_for_status()
    body = {"inputs": ["a film", "flat"] * 40}
    predictions = server.client.post("/classify/sst2", json=body, headers=bearer(ours)).json()["predictions"]
    tokens = sum(10 + prediction["tokens"] for prediction in predictions)
    today = datetime.now(UTC).date().isoformat()
    shown = superpos("usage", "--task", "sst2", SUPERPOS_SERVER=server.url, SUPERPOS_API_KEY=ours)
    assert shown.code == 0, shown.stderr
    assert shown.stdout.startswith("acme, ")
    numbers = ["1", "80", f"{tokens:,}", "0"]
    assert tokens > 1_000
    assert rows(shown.stdout) == [[today, "sst2", *numbers], ["total", "", *numbers]]
    all_tasks = superpos("usage", "--tenant", "acme", "--server", server.url, "--key", ADMIN_KEY)
    # the upload, and the question before this one
    assert rows(all_tasks.stdout)[0] == [today, "", "2", "0", "0", "0"]
    assert rows(all_tasks.stdout)[-1] == ["total", "", "3", *numbers[1:]]

    lines = superpos("usage", "--csv", "--from", today, "--to", today, "--server", server.url, "--key", ours).stdout
    by_task = {row["task"]: row for row in csv.DictReader(io.StringIO(lines))}
    assert by_task["sst2"] | {"errors": ""} == {
        "tenant": "acme", "task": "sst2", "day": today,
        "requests": "1", "rows": "80", "tokens": str(tokens), "errors": "",
    }  # fmt: skip
    assert set(by_task) == {"sst2", ""}
    past = superpos("usage", "--from", "2020-01-01", "--to", "2020-01-31", "--server", server.url, "--key", ours)
    assert past.stdout.startswith("acme, 2020-01-01 to 2020-01-31\n")
    assert rows(past.stdout) == [["total", "", "0", "0", "0", "0"]]


@pytest.mark.slow
def test_a_usage_that_is_not_told_is_refused_in_one_line(serve: Serve) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    reader = Keyring(server).key("default", "classify")
    ask = ("usage", "--server", server.url)
    assert "401 unauthenticated" in superpos(*ask).refusal()
    assert "403 forbidden" in superpos(*ask, "--tenant", "acme", "--key", reader).refusal()
    backwards = superpos(*ask, "--from", "2026-02-01", "--to", "2026-01-01", "--key", reader).refusal()
    assert "from is 2026-02-01" in backwards
    assert superpos(*ask, "--from", "yesterday", "--key", reader).code == 2


@pytest.mark.slow
def test_an_adapter_that_changes_on_its_way_is_refused_by_the_server(
    serve: Serve, tiny: Backbone, tmp_path: Path
) -> None:
    server, adapter = serve(), make_adapter(tiny, seed=7)
    write_folder(tmp_path / "adapter", to_files(adapter))
    seed, other = b'"seed": 7', b'"seed": 8'
    assert seed in to_files(adapter)["superpos.json"]
    proxy = Proxy(int(urlsplit(server.url).port or 0), alter=lambda data: data.replace(seed, other))
    try:
        for command in ("push", "import"):
            refusal = superpos(
                command, tmp_path / "adapter", "sst2", "--to", f"http://127.0.0.1:{proxy.port}"
            ).refusal()
            assert "digest: got sha256:" in refusal
            assert f"expected {adapter.digest} (422 invalid_adapter)" in refusal
    finally:
        proxy.close()
    assert server.client.get("/tasks").json()["tasks"] == []
    assert superpos("push", tmp_path / "adapter", "sst2", "--to", server.url).code == 0
