"""The registry's contract, run against every implementation, and what is SQLite's alone."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import make_adapter

from adapters import (
    Change,
    Conflict,
    InvalidAdapter,
    InvalidName,
    NotFound,
    Publication,
    Ref,
    Registry,
    RegistryUnavailable,
    Resolution,
    SqliteRegistry,
    TaskInfo,
    VersionInfo,
)
from adapters.adapter import PromptAdapter
from adapters.files import CARD, MANIFEST, to_files, write_folder
from adapters.resolution import resolve_among
from backbone import Backbone

ROOT = Path(__file__).parents[1]
UNKNOWN = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Store:
    """One registry's place: opened from here, or from another process by an expression."""

    open: Callable[[], Registry]
    expression: str


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty place for a registry, of each implementation."""
    assert request.param == "sqlite"
    path = tmp_path / "registry" / "registry.sqlite"
    return Store(lambda: SqliteRegistry(path), f"SqliteRegistry(Path({str(path)!r}))")


@pytest.fixture
def registry(store: Store) -> Registry:
    """An empty registry."""
    return store.open()


@pytest.fixture(scope="module")
def published(tiny: Backbone) -> list[PromptAdapter]:
    """Adapters that differ."""
    return [make_adapter(tiny, seed=seed, num_virtual_tokens=2) for seed in range(130)]


@pytest.fixture(scope="module")
def uploads(published: list[PromptAdapter]) -> list[dict[str, bytes]]:
    """The files of each of them."""
    return [to_files(adapter, card=f"# {adapter.digest}\n") for adapter in published]


Uploads = list[dict[str, bytes]]


def summary(changes: list[Change]) -> list[tuple[str, str, int, str | None]]:
    return [(change.kind, change.task, change.version, change.alias) for change in changes]


# --- publish


def test_the_first_version_is_one_and_production_points_at_it(
    registry: Registry, published: list[PromptAdapter], uploads: Uploads
) -> None:
    publication = registry.publish("acme", "sst2", uploads[0], actor="ann")
    assert publication == Publication(1, published[0].digest, created=True)
    assert registry.resolve("acme", Ref.parse("sst2")) == Resolution("sst2", 1, published[0].digest)


def test_versions_count_up_and_production_moves_with_them(registry: Registry, uploads: Uploads) -> None:
    assert [registry.publish("acme", "sst2", files, actor="ann").version for files in uploads[:4]] == [1, 2, 3, 4]
    assert registry.resolve("acme", Ref.parse("sst2")).version == 4


def test_each_task_counts_its_own_versions(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    assert registry.publish("acme", "trec", uploads[1], actor="ann").version == 1


def test_the_same_adapter_again_is_the_same_version_and_moves_nothing(registry: Registry, uploads: Uploads) -> None:
    first = registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    position = registry.changes()[-1].position
    again = registry.publish("acme", "sst2", uploads[0], actor="bob", aliases=("production", "canary"))
    assert again == Publication(1, first.digest, created=False)
    assert registry.describe("acme", "sst2").aliases == {"production": 2}
    assert registry.changes(position) == []


def test_the_same_adapter_in_other_bytes_is_the_same_version(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    other = uploads[0] | {MANIFEST: json.dumps(json.loads(uploads[0][MANIFEST])).encode(), CARD: b"# Another card\n"}
    publication = registry.publish("acme", "sst2", other, actor="ann")
    assert (publication.version, publication.created) == (1, False)
    assert registry.get(publication.digest) == uploads[0]


@pytest.mark.parametrize("aliases", [(), ("canary",), ("production", "canary", "best")])
def test_a_publication_points_the_aliases_that_it_names_and_no_others(
    registry: Registry, uploads: Uploads, aliases: tuple[str, ...]
) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("stable",))
    registry.publish("acme", "sst2", uploads[1], actor="ann", aliases=aliases)
    assert registry.describe("acme", "sst2").aliases == {"stable": 1, **dict.fromkeys(aliases, 2)}


def test_files_come_back_byte_for_byte(registry: Registry, published: list[PromptAdapter], uploads: Uploads) -> None:
    compact = uploads[0] | {MANIFEST: json.dumps(json.loads(uploads[0][MANIFEST])).encode()}
    registry.publish("acme", "sst2", compact, actor="ann")
    without_card = {name: data for name, data in uploads[1].items() if name != CARD}
    registry.publish("acme", "sst2", without_card, actor="ann")
    assert registry.get(published[0].digest) == compact
    assert registry.get(published[1].digest) == without_card


def test_files_that_are_no_adapter_are_refused_and_leave_nothing(registry: Registry, uploads: Uploads) -> None:
    with pytest.raises(InvalidAdapter):
        registry.publish("acme", "sst2", uploads[0] | {MANIFEST: b"{}"}, actor="ann")
    assert registry.changes() == []
    assert registry.publish("acme", "sst2", uploads[0], actor="ann").version == 1


@pytest.mark.parametrize(
    ("tenant", "task", "aliases"),
    [
        ("", "sst2", ()),
        ("Acme", "sst2", ()),
        ("acme/x", "sst2", ()),
        ("acme", "", ()),
        ("acme", "sst2@3", ()),
        ("acme", "../sst2", ()),
        ("acme", "sst2", ("production", "3")),
        ("acme", "sst2", ("Canary",)),
    ],
)
def test_badly_named_publications_are_refused_and_leave_nothing(
    registry: Registry, uploads: Uploads, tenant: str, task: str, aliases: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidName):
        registry.publish(tenant, task, uploads[0], actor="ann", aliases=aliases)
    assert registry.changes() == []


# --- resolve


def test_every_form_of_ref_finds_its_version(
    registry: Registry, published: list[PromptAdapter], uploads: Uploads
) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.set_alias("acme", "sst2", "canary", 2, actor="ann")
    digests = [adapter.digest for adapter in published]
    for text, version in {
        "sst2": 3,
        "sst2@production": 3,
        "sst2@1": 1,
        "sst2@canary": 2,
        f"sst2@{digests[0]}": 1,
        f"sst2@{digests[1][:19]}": 2,
    }.items():
        assert registry.resolve("acme", Ref.parse(text)) == Resolution("sst2", version, digests[version - 1])


@pytest.mark.parametrize("text", ["trec", "sst2@2", "sst2@canary", "sst2@sha256:000000000000", f"sst2@{UNKNOWN}"])
def test_a_ref_to_nothing_is_not_found(registry: Registry, uploads: Uploads, text: str) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(NotFound):
        registry.resolve("acme", Ref.parse(text))


def test_a_bare_task_that_has_no_production_alias_is_not_found(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=())
    with pytest.raises(NotFound, match="sst2@production"):
        registry.resolve("acme", Ref.parse("sst2"))
    assert registry.resolve("acme", Ref.parse("sst2@1")).version == 1


def test_a_digest_prefix_that_two_versions_share_is_a_conflict() -> None:
    shared = "sha256:" + "ab" * 6
    digests = [shared + "0" * 52, shared + "1" * 52]
    at = datetime.now(UTC)
    versions = tuple(VersionInfo(number, digest, at, "ann") for number, digest in enumerate(digests, 1))
    task = TaskInfo("acme", "sst2", versions, {})
    with pytest.raises(Conflict, match=f"sst2@{shared} means 2 versions, give more digits"):
        resolve_among(task, Ref.parse(f"sst2@{shared}"))
    assert resolve_among(task, Ref.parse(f"sst2@{shared}1")) == Resolution("sst2", 2, digests[1])


def test_the_files_of_an_unknown_digest_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match=UNKNOWN):
        registry.get(UNKNOWN)


# --- aliases


def test_an_alias_moves_where_it_is_where_the_caller_expects_it(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=3)
    assert registry.resolve("acme", Ref.parse("sst2")).version == 1


def test_an_alias_that_has_moved_meanwhile_is_a_conflict_and_stays(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    position = registry.changes()[-1].position
    with pytest.raises(Conflict, match="sst2@production points at version 3, expected version 2"):
        registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=2)
    with pytest.raises(Conflict, match="sst2@canary points at nothing, expected version 1"):
        registry.set_alias("acme", "sst2", "canary", 2, actor="ann", expected=1)
    assert registry.describe("acme", "sst2").aliases == {"production": 3}
    assert registry.changes(position) == []


def test_an_alias_set_to_where_it_is_leaves_no_change(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    position = registry.changes()[-1].position
    registry.set_alias("acme", "sst2", "production", 1, actor="ann")
    registry.set_alias("acme", "sst2", "production", 1, actor="ann", expected=1)
    assert registry.changes(position) == []


@pytest.mark.parametrize(("task", "version"), [("sst2", 2), ("trec", 1)])
def test_an_alias_cannot_point_at_nothing(registry: Registry, uploads: Uploads, task: str, version: int) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(NotFound, match=f"{task}@{version}"):
        registry.set_alias("acme", task, "canary", version, actor="ann")
    assert registry.describe("acme", "sst2").aliases == {"production": 1}


@pytest.mark.parametrize("alias", ["3", "", "Canary", "a@b"])
def test_a_badly_named_alias_is_refused(registry: Registry, uploads: Uploads, alias: str) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(InvalidName):
        registry.set_alias("acme", "sst2", alias, 1, actor="ann")


def test_a_deleted_alias_is_not_found_and_its_version_stays(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("production", "canary"))
    registry.delete_alias("acme", "sst2", "canary", actor="ann")
    assert registry.describe("acme", "sst2").aliases == {"production": 1}
    with pytest.raises(NotFound, match="sst2@canary"):
        registry.resolve("acme", Ref.parse("sst2@canary"))
    with pytest.raises(NotFound, match="sst2@canary"):
        registry.delete_alias("acme", "sst2", "canary", actor="ann")
    assert registry.resolve("acme", Ref.parse("sst2@1")).version == 1


def test_of_many_who_move_an_alias_from_the_same_place_one_succeeds(store: Store, uploads: Uploads) -> None:
    registry = store.open()
    for files in uploads[:9]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    registry.set_alias("acme", "sst2", "production", 1, actor="ann")
    together = threading.Barrier(8)

    def move(version: int) -> bool:
        mine = store.open()
        together.wait()
        try:
            mine.set_alias("acme", "sst2", "production", version, actor=f"actor-{version}", expected=1)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        moved = dict(zip(range(2, 10), pool.map(move, range(2, 10)), strict=True))
    assert sum(moved.values()) == 1
    assert moved[registry.resolve("acme", Ref.parse("sst2")).version]
    assert registry.changes()[-1].kind == "alias_set"
    assert len(registry.changes()) == 9 + 1 + 1


# --- delete


def test_a_version_that_an_alias_points_at_is_not_deleted(registry: Registry, uploads: Uploads) -> None:
    first = registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(Conflict, match="sst2@production points at version 1"):
        registry.delete("acme", "sst2", 1, actor="ann")
    assert registry.resolve("acme", Ref.parse("sst2@1")).digest == first.digest
    assert registry.get(first.digest) == uploads[0]


@pytest.mark.parametrize(("task", "version"), [("sst2", 2), ("trec", 1)])
def test_deleting_what_is_not_there_is_not_found(registry: Registry, uploads: Uploads, task: str, version: int) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    with pytest.raises(NotFound, match=f"{task}@{version}"):
        registry.delete("acme", task, version, actor="ann")


def test_a_deleted_version_and_its_files_are_not_found(registry: Registry, uploads: Uploads) -> None:
    first = registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    registry.delete("acme", "sst2", 1, actor="ann")
    assert [info.version for info in registry.describe("acme", "sst2").versions] == [2]
    for missing in ("sst2@1", f"sst2@{first.digest}"):
        with pytest.raises(NotFound):
            registry.resolve("acme", Ref.parse(missing))
    with pytest.raises(NotFound, match=first.digest):
        registry.get(first.digest)


def test_a_number_is_never_given_again(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:2]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    for version in (2, 1):
        registry.delete("acme", "sst2", version, actor="ann")
    with pytest.raises(NotFound):
        registry.describe("acme", "sst2")
    assert registry.list("acme") == []
    again = registry.publish("acme", "sst2", uploads[0], actor="ann")
    assert (again.version, again.created) == (3, True)
    assert registry.get(again.digest) == uploads[0]
    assert registry.publish("acme", "sst2", uploads[2], actor="ann").version == 4


def test_files_stay_as_long_as_any_task_has_a_version_of_them(registry: Registry, uploads: Uploads) -> None:
    digest = registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=()).digest
    registry.publish("acme", "copy", uploads[0], actor="ann", aliases=())
    registry.publish("zeta", "sst2", uploads[0], actor="zoe", aliases=())
    registry.delete("acme", "sst2", 1, actor="ann")
    registry.delete("acme", "copy", 1, actor="ann")
    assert registry.get(digest) == uploads[0]
    registry.delete("zeta", "sst2", 1, actor="zoe")
    with pytest.raises(NotFound):
        registry.get(digest)


# --- list, describe, tenants


def test_a_description_tells_versions_aliases_actors_and_times(
    registry: Registry, published: list[PromptAdapter], uploads: Uploads
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="bob", aliases=("canary",))
    info = registry.describe("acme", "sst2")
    assert (info.tenant, info.task) == ("acme", "sst2")
    assert [(v.version, v.digest, v.actor) for v in info.versions] == [
        (1, published[0].digest, "ann"),
        (2, published[1].digest, "bob"),
    ]
    assert info.aliases == {"production": 1, "canary": 2}
    assert before <= info.versions[0].created_at <= info.versions[1].created_at <= datetime.now(UTC)


def test_the_list_has_every_task_by_name_as_it_is_described(registry: Registry, uploads: Uploads) -> None:
    for number, task in enumerate(["trec", "ag_news", "sst2", "trec"]):
        registry.publish("acme", task, uploads[number], actor="ann")
    listed = registry.list("acme")
    assert [info.task for info in listed] == ["ag_news", "sst2", "trec"]
    assert listed == [registry.describe("acme", info.task) for info in listed]


def test_an_unknown_task_is_not_found_and_an_unknown_tenant_has_none(registry: Registry) -> None:
    with pytest.raises(NotFound, match="sst2"):
        registry.describe("acme", "sst2")
    assert registry.list("acme") == []


def test_tenants_neither_see_nor_reach_each_others_tasks(registry: Registry, uploads: Uploads) -> None:
    mine = registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=("production", "mine"))
    registry.publish("zeta", "trec", uploads[1], actor="zoe")
    actions: list[Callable[[], object]] = [
        lambda: registry.describe("zeta", "sst2"),
        lambda: registry.resolve("zeta", Ref.parse("sst2")),
        lambda: registry.resolve("zeta", Ref.parse("sst2@1")),
        lambda: registry.resolve("zeta", Ref.parse(f"sst2@{mine.digest}")),
        lambda: registry.resolve("zeta", Ref.parse(f"trec@{mine.digest}")),
        lambda: registry.set_alias("zeta", "sst2", "canary", 1, actor="zoe"),
        lambda: registry.delete_alias("zeta", "sst2", "mine", actor="zoe"),
        lambda: registry.delete("zeta", "sst2", 1, actor="zoe"),
    ]
    position = registry.changes()[-1].position
    for action in actions:
        with pytest.raises(NotFound):
            action()
    assert registry.changes(position) == []
    assert [info.task for info in registry.list("zeta")] == ["trec"]
    assert [info.task for info in registry.list("acme")] == ["sst2"]


def test_another_tenants_task_and_no_task_are_refused_in_the_same_words(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "secret", uploads[0], actor="ann")
    messages = []
    for tenant in ("zeta", "nobody"):
        with pytest.raises(NotFound) as caught:
            registry.resolve(tenant, Ref.parse("secret"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_tenants_count_versions_of_the_same_task_name_apart(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("acme", "sst2", uploads[1], actor="ann")
    other = registry.publish("zeta", "sst2", uploads[0], actor="zoe")
    assert (other.version, other.created) == (1, True)
    assert registry.resolve("acme", Ref.parse("sst2")).version == 2
    assert registry.resolve("zeta", Ref.parse("sst2")).version == 1


# --- the log


def test_the_log_tells_every_write_in_order(
    registry: Registry, published: list[PromptAdapter], uploads: Uploads
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    registry.publish("zeta", "trec", uploads[1], actor="zoe", aliases=())
    registry.publish("acme", "sst2", uploads[2], actor="bob", aliases=("canary", "best"))
    registry.set_alias("acme", "sst2", "production", 2, actor="cat", expected=1)
    registry.delete_alias("acme", "sst2", "best", actor="dan")
    registry.delete("acme", "sst2", 1, actor="eve")
    changes = list(registry.changes())
    told = [(c.kind, c.tenant, c.task, c.version, c.digest, c.alias, c.actor) for c in changes]
    first, other, second = (adapter.digest for adapter in published[:3])
    assert told == [
        ("published", "acme", "sst2", 1, first, None, "ann"),
        ("alias_set", "acme", "sst2", 1, first, "production", "ann"),
        ("published", "zeta", "trec", 1, other, None, "zoe"),
        ("published", "acme", "sst2", 2, second, None, "bob"),
        ("alias_set", "acme", "sst2", 2, second, "canary", "bob"),
        ("alias_set", "acme", "sst2", 2, second, "best", "bob"),
        ("alias_set", "acme", "sst2", 2, second, "production", "cat"),
        ("alias_deleted", "acme", "sst2", 2, second, "best", "dan"),
        ("version_deleted", "acme", "sst2", 1, first, None, "eve"),
    ]
    positions = [change.position for change in changes]
    assert positions == sorted(set(positions))
    assert positions[0] > 0
    times = [change.at for change in changes]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= datetime.now(UTC)


def test_the_log_goes_on_after_any_position(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    changes = registry.changes()
    for index, change in enumerate(changes):
        assert registry.changes(change.position) == changes[index + 1 :]
    assert registry.changes(changes[-1].position + 1_000) == []


def test_a_refused_write_leaves_no_trace_in_the_log(registry: Registry, uploads: Uploads) -> None:
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    told = summary(list(registry.changes()))
    refusals: list[tuple[Callable[[], None], type[Exception]]] = [
        (lambda: registry.delete("acme", "sst2", 1, actor="ann"), Conflict),
        (lambda: registry.delete("acme", "sst2", 9, actor="ann"), NotFound),
        (lambda: registry.delete_alias("acme", "sst2", "canary", actor="ann"), NotFound),
        (lambda: registry.set_alias("acme", "sst2", "production", 9, actor="ann"), NotFound),
    ]
    for refused, error in refusals:
        with pytest.raises(error):
            refused()
    assert summary(list(registry.changes())) == told


def test_a_version_has_the_time_that_the_log_gives_its_publication(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:100]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    told = {change.version: change.at for change in registry.changes()}
    assert {info.version: info.created_at for info in registry.describe("acme", "sst2").versions} == told


# --- several at once


def test_a_second_handle_sees_what_the_first_wrote(store: Store, uploads: Uploads) -> None:
    first, second = store.open(), store.open()
    publication = first.publish("acme", "sst2", uploads[0], actor="ann")
    assert second.resolve("acme", Ref.parse("sst2")).digest == publication.digest
    assert second.changes() == first.changes()
    assert store.open().get(publication.digest) == uploads[0]


def test_eight_threads_that_open_a_new_registry_at_once_all_succeed(store: Store) -> None:
    together = threading.Barrier(8)

    def open_it(_: int) -> list[TaskInfo]:
        together.wait()
        return list(store.open().list("acme"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(open_it, range(8))) == [[]] * 8


def test_eight_threads_publish_distinct_versions_with_no_gaps(store: Store, uploads: Uploads) -> None:
    registry = store.open()
    together = threading.Barrier(8)

    def publish(number: int) -> list[int]:
        together.wait()
        mine = uploads[number * 5 : number * 5 + 5]
        return [registry.publish("acme", "sst2", files, actor=f"thread-{number}").version for files in mine]

    with ThreadPoolExecutor(8) as pool:
        each = list(pool.map(publish, range(8)))
    assert sorted(version for versions in each for version in versions) == list(range(1, 41))
    assert all(versions == sorted(versions) for versions in each)
    changes = list(registry.changes())
    told = [change.version for change in changes if change.kind == "published"]
    assert told == list(range(1, 41))
    assert registry.resolve("acme", Ref.parse("sst2")).version == 40


def test_eight_threads_that_publish_the_same_adapter_make_one_version(store: Store, uploads: Uploads) -> None:
    registry = store.open()
    together = threading.Barrier(8)

    def publish(number: int) -> Publication:
        together.wait()
        return registry.publish("acme", "sst2", uploads[0], actor=f"thread-{number}")

    with ThreadPoolExecutor(8) as pool:
        publications = list(pool.map(publish, range(8)))
    assert [publication.version for publication in publications] == [1] * 8
    assert sum(publication.created for publication in publications) == 1
    assert len(registry.changes()) == 2


PUBLISH = """
import sys
from pathlib import Path
from adapters import SqliteRegistry
from adapters.files import read_folder

registry = {expression}
uploads = [read_folder(folder) for folder in sorted(Path(sys.argv[1]).iterdir())]
print("ready", flush=True)
sys.stdin.readline()
print(*(registry.publish("acme", "sst2", files, actor="process").version for files in uploads))
"""


def test_two_processes_publish_distinct_versions_with_no_gaps(store: Store, uploads: Uploads, tmp_path: Path) -> None:
    registry = store.open()
    for number, files in enumerate(uploads[:40]):
        write_folder(tmp_path / f"process-{number % 2}" / f"{number:02}", files)
    script = PUBLISH.format(expression=store.expression)

    def start(number: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(tmp_path / f"process-{number}")]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start(0) as first, start(1) as second:
        for process in (first, second):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        each = [[int(version) for version in process.communicate()[0].split()] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert [len(versions) for versions in each] == [20, 20]
    assert sorted(each[0] + each[1]) == list(range(1, 41))
    assert [change.version for change in registry.changes() if change.kind == "published"] == list(range(1, 41))


def test_production_is_never_missing_while_versions_are_published(store: Store, uploads: Uploads) -> None:
    writer, reader = store.open(), store.open()
    writer.publish("acme", "sst2", uploads[0], actor="ann")
    done = threading.Event()

    def publish() -> None:
        try:
            for files in uploads[1:]:
                writer.publish("acme", "sst2", files, actor="ann")
        finally:
            done.set()

    seen = []
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        while not done.is_set():
            seen.append(reader.resolve("acme", Ref.parse("sst2")).version)
        publishing.result()
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


def test_a_list_taken_during_writes_agrees_with_itself(store: Store, uploads: Uploads) -> None:
    writer, reader = store.open(), store.open()
    done = threading.Event()

    def write() -> None:
        try:
            for files in uploads[:60]:
                version = writer.publish("acme", "sst2", files, actor="ann").version
                writer.delete_alias("acme", "sst2", "production", actor="ann")
                writer.delete("acme", "sst2", version, actor="ann")
        finally:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            for info in reader.list("acme"):
                assert info.versions
                assert set(info.aliases.values()) <= {version.version for version in info.versions}
        writing.result()
    assert reader.list("acme") == []


# --- SQLite alone


def test_a_file_that_is_no_registry_is_unavailable_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_bytes(b"this is no database " * 500)
    with pytest.raises(RegistryUnavailable) as caught:
        SqliteRegistry(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"this is no database " * 500


def test_a_registry_overwritten_later_is_unavailable_by_its_path(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "registry.sqlite"
    registry = SqliteRegistry(path)
    digest = registry.publish("acme", "sst2", uploads[0], actor="ann").digest
    for left in tmp_path.iterdir():
        left.write_bytes(b"this is no database " * 500)
    actions: list[Callable[[], object]] = [
        lambda: registry.get(digest),
        lambda: registry.list("acme"),
        registry.changes,
        lambda: registry.resolve("acme", Ref.parse("sst2")),
        lambda: registry.publish("acme", "sst2", uploads[1], actor="ann"),
    ]
    for action in actions:
        with pytest.raises(RegistryUnavailable) as caught:
            action()
        assert str(path) in str(caught.value)


def test_a_registry_whose_file_was_removed_is_unavailable_and_not_empty(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "registry.sqlite"
    registry = SqliteRegistry(path)
    registry.publish("acme", "sst2", uploads[0], actor="ann")
    for left in tmp_path.iterdir():
        left.unlink()
    with pytest.raises(RegistryUnavailable) as caught:
        registry.list("acme")
    assert str(path) in str(caught.value)


def test_a_folder_in_the_registrys_place_is_unavailable_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(RegistryUnavailable) as caught:
        SqliteRegistry(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("below", ["registry.sqlite", "deeper/registry.sqlite"])
def test_a_folder_that_cannot_be_made_is_unavailable_by_its_path(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / below
    with pytest.raises(RegistryUnavailable) as caught:
        SqliteRegistry(path)
    assert str(path.parent) in str(caught.value)


def test_a_registry_makes_its_folders_and_is_found_there_again(tmp_path: Path, uploads: Uploads) -> None:
    path = tmp_path / "a" / "b" / "registry.sqlite"
    publication = SqliteRegistry(path).publish("acme", "sst2", uploads[0], actor="ann")
    assert SqliteRegistry(path).resolve("acme", Ref.parse("sst2")).digest == publication.digest
