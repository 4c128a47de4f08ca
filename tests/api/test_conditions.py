"""Entity tags: writes of aliases that hold only while nothing changed, and reads that are spared the body."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer

from adapters import Resolution
from backbone import Backbone
from service.errors import PreconditionFailed
from service.releases.preconditions import Preconditions, alias_tag

ALIAS = "/tasks/sentiment/aliases/production"
CANARY = "/tasks/sentiment/aliases/canary"


@pytest.fixture
def server(serve: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """One task of three versions, production at the last."""
    started = serve()
    for seed in range(3):
        started.upload("sentiment", make_adapter(tiny, seed=seed))
    return started


@pytest.mark.slow
def test_an_alias_tells_its_tag_and_moves_only_from_there(server: RunningServer) -> None:
    read = server.client.get(ALIAS)
    tag = read.headers["ETag"]
    assert tag == f'"3-{read.json()["adapter"]}"'
    moved = server.client.put(ALIAS, json={"version": 1}, headers={"If-Match": tag})
    assert moved.status_code == 200
    assert moved.headers["ETag"] == server.client.get(ALIAS).headers["ETag"] != tag
    stale = server.client.put(ALIAS, json={"version": 2}, headers={"If-Match": tag})
    check_problem(stale, 412, "precondition_failed", tag, moved.headers["ETag"])
    check_problem(server.client.delete(ALIAS, headers={"If-Match": tag}), 412, "precondition_failed", tag)
    assert server.classify("sentiment", "x").json()["version"] == 1
    either = server.client.put(ALIAS, json={"version": 2}, headers={"If-Match": f"{tag}, {moved.headers['ETag']}"})
    assert either.status_code == 200
    assert server.client.delete(ALIAS, headers={"If-Match": either.headers["ETag"]}).status_code == 204
    check_problem(server.client.get(ALIAS), 404, "not_found", "production")


def test_an_alias_can_be_made_only_where_there_is_none_and_moved_only_where_there_is(server: RunningServer) -> None:
    missing = server.client.put(CANARY, json={"version": 1}, headers={"If-Match": "*"})
    check_problem(missing, 412, "precondition_failed", "none")
    assert server.client.put(CANARY, json={"version": 1}, headers={"If-None-Match": "*"}).status_code == 200
    again = server.client.put(CANARY, json={"version": 2}, headers={"If-None-Match": "*"})
    check_problem(again, 412, "precondition_failed", "*")
    assert server.client.put(CANARY, json={"version": 2}, headers={"If-Match": "*"}).status_code == 200
    gone = server.client.delete("/tasks/sentiment/aliases/none", headers={"If-Match": "*"})
    check_problem(gone, 412, "precondition_failed")


@pytest.mark.slow
def test_of_writes_with_the_same_tag_one_wins(server: RunningServer) -> None:
    tag = server.client.get(ALIAS).headers["ETag"]

    def move(version: int) -> int:
        return server.client.put(ALIAS, json={"version": version}, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(move, [1, 2] * 8))
    assert sorted(statuses) == [200] + [412] * 15


@pytest.mark.parametrize("field", ["production", '"open', "*, *", '"a" "b"'])
@pytest.mark.slow
def test_a_field_that_is_no_tag_holds_never(server: RunningServer, field: str) -> None:
    for name in ("If-Match", "If-None-Match"):
        refused = server.client.put(ALIAS, json={"version": 1}, headers={name: field})
        check_problem(refused, 412, "precondition_failed", name, repr(field))
    assert server.client.get(ALIAS, headers={"If-None-Match": field}).json()["version"] == 3


@pytest.mark.slow
def test_a_reader_with_the_present_tag_gets_304_without_a_body(server: RunningServer) -> None:
    version = "/tasks/sentiment/versions/2"
    for path in (ALIAS, version, f"{version}/files/adapter_model.safetensors"):
        first = server.client.get(path)
        tag = first.headers["ETag"]
        for known in (tag, f'"other", {tag}', "*", tag.removeprefix("W/")):
            again = server.client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
            assert "X-Request-ID" in again.headers
        other = server.client.get(path, headers={"If-None-Match": '"other"'})
        assert (other.status_code, other.content) == (200, first.content)
    digest = server.client.get(version).json()["adapter"]
    assert server.client.get(version).headers["ETag"] == f'W/"{digest}"'


RESOLUTION = Resolution("sst2", 3, "sha256:ab")
TAG = alias_tag(RESOLUTION)


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "current", "holds"),
    [
        (TAG, None, TAG, True),
        (f"W/{TAG}", None, TAG, False),
        (TAG, None, None, False),
        ("*", None, TAG, True),
        ("*", None, None, False),
        (None, TAG, TAG, False),
        (None, f"W/{TAG}", TAG, False),
        (None, TAG, None, True),
        (None, '"other"', TAG, True),
        (None, "*", None, True),
        (TAG, '"other"', TAG, True),
    ],
)
def test_conditions_hold_as_rfc_9110_has_it(
    if_match: str | None, if_none_match: str | None, current: str | None, holds: bool
) -> None:
    conditions = Preconditions(if_match, if_none_match)
    if holds:
        conditions.check(current)
    else:
        with pytest.raises(PreconditionFailed):
            conditions.check(current)
