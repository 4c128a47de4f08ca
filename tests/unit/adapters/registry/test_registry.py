"""The registry's contract, run against every implementation: to publish, resolve, delete and list."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
import redis
from support.registry import Store, Uploads

from adapters import (
    Conflict,
    InvalidAdapter,
    InvalidName,
    NotFound,
    Publication,
    Ref,
    Registry,
    Resolution,
    TaskInfo,
    VersionInfo,
)
from adapters.adapter import PromptAdapter
from adapters.files import CARD, CONFIG, MANIFEST, content_id

UNKNOWN = "sha256:" + "0" * 64


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
    again = registry.publish("acme", "sst2", uploads[0], actor="bob")
    assert again == Publication(1, first.digest, created=False)
    assert registry.describe("acme", "sst2").aliases == {"production": 2}
    assert registry.changes(position) == []


def test_the_same_adapter_again_moves_the_aliases_that_are_named(registry: Registry, uploads: Uploads) -> None:
    for upload in uploads[:2]:
        registry.publish("acme", "sst2", upload, actor="ann")
    position = registry.changes()[-1].position
    again = registry.publish("acme", "sst2", uploads[0], actor="bob", aliases=("production", "canary"))
    assert (again.version, again.created) == (1, False)
    assert registry.describe("acme", "sst2").aliases == {"production": 1, "canary": 1}
    assert [(change.kind, change.alias) for change in registry.changes(position)] == [
        ("alias_set", "production"),
        ("alias_set", "canary"),
    ]
    registry.publish("acme", "sst2", uploads[0], actor="bob", aliases=("production",))
    assert len(registry.changes(position)) == 2


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
    with pytest.raises(Conflict, match=f"sst2@{shared} matches 2 versions, give more digits"):
        task.resolve(Ref.parse(f"sst2@{shared}"))
    assert task.resolve(Ref.parse(f"sst2@{shared}1")) == Resolution("sst2", 2, digests[1])


def test_the_files_of_an_unknown_digest_are_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound, match=UNKNOWN):
        registry.get(UNKNOWN)


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


# --- list and describe


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


def test_the_bytes_of_a_tenants_files_are_counted_once_each(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish("acme", "sst2", files, actor="ann")
    registry.publish("acme", "copy", uploads[0], actor="ann")
    registry.publish("zeta", "sst2", uploads[0], actor="zoe")
    sizes = {content_id(files): sum(map(len, files.values())) for files in uploads[:3]}
    assert registry.content_sizes("acme") == sizes
    assert registry.content_sizes("zeta") == dict(list(sizes.items())[:1])
    assert registry.content_sizes("none") == {}


def test_an_adapter_that_two_tenants_have_comes_back_with_each_ones_own_files(
    registry: Registry, uploads: Uploads
) -> None:
    peft = json.loads(uploads[0][CONFIG]) | {"base_model_name_or_path": "someone/else"}
    theirs = uploads[0] | {CARD: b"# Theirs, and a megabyte of it" * 100, CONFIG: json.dumps(peft).encode()}
    digest = registry.publish("zeta", "sst2", theirs, actor="zoe", aliases=()).digest
    assert registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=()).digest == digest
    assert registry.files("zeta", "sst2", 1) == theirs
    assert registry.files("acme", "sst2", 1) == uploads[0]
    assert registry.content_sizes("acme") == {content_id(uploads[0]): sum(map(len, uploads[0].values()))}
    registry.delete("zeta", "sst2", 1, actor="zoe")
    assert registry.files("acme", "sst2", 1) == registry.get(digest) == uploads[0]
    registry.delete("acme", "sst2", 1, actor="ann")
    with pytest.raises(NotFound, match=digest):
        registry.get(digest)
    with pytest.raises(NotFound, match="sst2@1"):
        registry.files("acme", "sst2", 1)


def test_versions_that_were_published_before_files_had_addresses_of_their_own_are_read_and_deleted(
    registry: Registry, store: Store, uploads: Uploads
) -> None:
    digest = registry.publish("acme", "sst2", uploads[0], actor="ann", aliases=()).digest
    as_before(store, digest, content_id(uploads[0]))
    registry = store.open()
    assert registry.files("acme", "sst2", 1) == registry.get(digest) == uploads[0]
    assert sum(registry.content_sizes("acme").values()) == sum(map(len, uploads[0].values()))
    changed = uploads[0] | {CARD: b"# Another"}
    registry.publish("zeta", "sst2", changed, actor="zoe", aliases=())
    registry.delete("acme", "sst2", 1, actor="ann")
    assert registry.files("zeta", "sst2", 1) == registry.get(digest) == changed


def as_before(store: Store, digest: str, content: str) -> None:
    """Store the files of acme's sst2@1 as version 0.2 did: under the adapter's digest."""
    if not store.place.startswith("redis"):
        with sqlite3.connect(store.place) as db:
            db.execute("DELETE FROM contents")
            db.execute("UPDATE files SET digest=? WHERE digest=?", (digest, content))
        return
    client = redis.Redis.from_url(store.place.split("?")[0], decode_responses=True)
    (key,) = client.scan_iter(f"{store.place.rpartition('prefix=')[2]}:files:{content}")
    prefix = key.removesuffix(f"files:{content}")
    client.rename(key, f"{prefix}files:{digest}")
    client.rename(f"{prefix}uses:{content}", f"{prefix}uses:{digest}")
    client.delete(f"{prefix}contents:{digest}")
    client.hdel(f"{prefix}task:acme:sst2", "content:1")
