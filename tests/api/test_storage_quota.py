"""How much a tenant may store: told before anything is stored, whatever was uploaded at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from support.adapters import SENTIMENT, make_adapter
from support.http import check_problem
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters.files import to_files
from backbone import Backbone

Files = list[dict[str, bytes]]


@pytest.fixture
def files(tiny: Backbone) -> Files:
    """Uploads that differ and are of one size, but for a few digits."""
    return [to_files(make_adapter(tiny, SENTIMENT, seed=seed)) for seed in range(6)]


@pytest.fixture(params=["sqlite", "redis"])
def server(request: pytest.FixtureRequest, serve: Callable[..., RunningServer]) -> RunningServer:
    place: dict[str, object] = {}
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        place = {"registry": redis.place()}
    return serve(require_keys=True, admin_key=ADMIN_KEY, **place)


def size_bytes(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def upload(server: RunningServer, key: str, task: str, files: dict[str, bytes]) -> httpx2.Response:
    parts = [("files", (name, data)) for name, data in files.items()]
    return server.client.post(f"/tasks/{task}/versions", files=parts, headers=bearer(key))


def test_tasks_versions_and_bytes_are_limited_and_what_is_there_already_is_no_upload(
    server: RunningServer, files: Files
) -> None:
    keyring = Keyring(server)
    keyring.tenant("acme", max_tasks=2, max_versions=2)
    key = keyring.key("acme", "publish")
    assert upload(server, key, "a", files[0]).status_code == 201
    assert upload(server, key, "b", files[0]).status_code == 201
    refused = upload(server, key, "c", files[0])
    check_problem(refused, 409, "quota_exceeded", "would have 3 tasks, its limit is 2")
    assert upload(server, key, "a", files[1]).status_code == 201
    refused = upload(server, key, "a", files[2])
    check_problem(refused, 409, "quota_exceeded", "would have 3 versions of a, its limit is 2")
    assert upload(server, key, "a", files[1]).status_code == 200
    assert server.client.delete("/tasks/a/versions/1", headers=bearer(key)).status_code == 204
    assert upload(server, key, "a", files[2]).status_code == 201

    stored = sum(map(size_bytes, files[:3]))
    keyring.change("acme", max_tasks=None, max_versions=None, max_bytes=stored + size_bytes(files[3]) - 1)
    assert upload(server, key, "c", files[2]).status_code == 201, "its bytes are stored once"
    refused = upload(server, key, "c", files[3])
    check_problem(refused, 409, "quota_exceeded", f"would have {stored + size_bytes(files[3])} bytes")
    keyring.change("acme", max_bytes=stored + size_bytes(files[3]))
    assert upload(server, key, "c", files[3]).status_code == 201
    keyring.tenant("zeta", max_tasks=1)
    assert upload(server, keyring.key("zeta", "publish"), "a", files[0]).status_code == 201


def test_of_many_uploads_at_once_no_more_are_taken_than_fit(server: RunningServer, files: Files) -> None:
    keyring = Keyring(server)
    keyring.tenant("acme", max_versions=2)
    key = keyring.key("acme", "publish")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: upload(server, key, "a", one).status_code, files))
    assert sorted(answers) == [201] * 2 + [409] * 4
    assert len(server.client.get("/tasks/a", headers=bearer(key)).json()["versions"]) == 2
