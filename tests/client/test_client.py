"""The client on a real server: predictions, tasks and releases, accounts, errors, event loops, and the local engine."""

import asyncio
import gc
import io
import json
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from support.adapters import SENTIMENT, make_adapter
from support.clients import FORMS, Form, ask
from support.server import RunningServer, running_servers
from support.tenancy import ADMIN_KEY

from adapters.files import from_files, read_folder, to_files, write_folder
from backbone import Backbone
from superpos_client import (
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    InvalidAnswer,
    NotFound,
    PreconditionFailed,
    Prediction,
    SuperposError,
    Unauthorized,
)

forms = pytest.mark.parametrize("form", FORMS)
PAIR = {"premise": "it rains", "hypothesis": "it is wet"}


_OF_THE_REQUEST = {"task", "version", "digest", "backbone", "precision", "request_id"}


@forms
def test_one_input_has_one_prediction_and_a_list_has_a_list(shared_server: RunningServer, form: Form) -> None:
    one = ask(form, shared_server.url, lambda client: client.classify("sentiment", "a film"))
    body = shared_server.classify("sentiment", "a film").json()
    (answered,) = body["predictions"]
    assert one.model_dump(mode="json", exclude=_OF_THE_REQUEST) == answered
    assert (one.task, one.version, one.digest, one.backbone, one.precision) == (
        "sentiment", 1, body["adapter"], body["backbone"], body["precision"],
    )  # fmt: skip
    assert one.request_id
    several = ask(form, shared_server.url, lambda client: client.classify("pair", [PAIR, PAIR], top_k=1))
    assert [list(each.scores) for each in several] == [[each.label] for each in several]
    assert len(several) == 2
    assert ask(form, shared_server.url, lambda client: client.classify("pair", [])) == []


@forms
def test_a_list_longer_than_a_request_is_answered_by_one_version(
    shared_server: RunningServer, tiny: Backbone, form: Form
) -> None:
    texts = [f"film {number}" for number in range(shared_server.settings.max_rows_per_request + 10)]
    found = ask(form, shared_server.url, lambda client: client.classify("sentiment", texts, timeout=60))
    assert len(found) == len(texts)
    assert {each.version for each in found} == {1}
    alone = ask(form, shared_server.url, lambda client: client.classify("sentiment", texts[-1]))
    assert found[-1].scores == alone.scores
    with pytest.raises(Invalid):
        ask(form, shared_server.url, lambda client: client.classify("sentiment", [*texts, ""]))


@forms
def test_several_tasks_answer_one_text_and_one_that_fails_is_raised_or_returned(
    shared_server: RunningServer, form: Form
) -> None:
    found = ask(form, shared_server.url, lambda client: client.classify_tasks(["sentiment", "sentiment@1"], "a film"))
    assert list(found) == ["sentiment", "sentiment@1"]
    assert found["sentiment"].label == found["sentiment@1"].label

    def with_a_pair(client: Client, **options: str) -> object:
        return client.classify_tasks(["sentiment", "pair"], "a film", **options)  # type: ignore[call-overload]

    with pytest.raises(Invalid, match="the task needs an object"):
        ask(form, shared_server.url, with_a_pair)
    found = ask(form, shared_server.url, lambda client: with_a_pair(client, on_error="return"))
    assert isinstance(found["sentiment"], Prediction)
    assert isinstance(found["pair"], Invalid)
    assert found["pair"].code == "invalid_input"


ERRORS: dict[str, tuple[Callable[[Client], object], type[SuperposError], int, str]] = {
    "unknown task": (lambda client: client.classify("nothing", "a film"), NotFound, 404, "not_found"),
    "malformed ref": (lambda client: client.classify("a b@", "a film"), BadRequest, 400, "invalid_name"),
    "wrong field": (lambda client: client.classify("sentiment", {"x": "y"}), Invalid, 422, "invalid_input"),
    "empty text": (lambda client: client.classify("sentiment", " "), Invalid, 422, "invalid_input"),
    "long text": (lambda client: client.classify("sentiment", "word " * 200), Invalid, 422, "text_too_long"),
    "bad option": (lambda client: client.classify("sentiment", "a", top_k=0), Invalid, 422, "invalid_request"),
    "other version": (
        lambda client: client.tasks.set_alias("sentiment", "a", 1, expected=7), Conflict, 409, "conflict",
    ),
    "other tag": (
        lambda client: client.tasks.delete_alias("sentiment", "production", if_match='"7"'),
        PreconditionFailed, 412, "precondition_failed",
    ),
    "no adapter": (lambda client: client.tasks.publish("new", {"a.txt": b""}), Invalid, 422, "invalid_adapter"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
@forms
def test_an_error_has_the_class_of_its_status_and_what_the_server_said(
    shared_server: RunningServer, form: Form, name: str
) -> None:
    call, kind, status, code = ERRORS[name]
    with pytest.raises(kind) as caught:
        ask(form, shared_server.url, call)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code) == (status, code)
    assert error.detail
    assert error.request_id
    assert str(error) == f"{shared_server.url} refused: {error.detail} ({status} {code})"
    assert error.reason == f"{error.detail} ({status} {code})"
    if name == "bad option":
        assert [(each.location, each.value) for each in error.errors] == [("body.top_k", "0")]
    if name == "no adapter":
        assert {"check", "value", "expected"} <= set(error.problem)


def test_an_error_survives_pickling(shared_server: RunningServer) -> None:
    with Client(shared_server.url) as client, pytest.raises(NotFound) as caught:
        client.classify("nothing", "a film")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is NotFound
    assert (str(copy), copy.__dict__) == (str(caught.value), caught.value.__dict__)


def test_an_answer_that_is_not_of_the_api_is_an_error_of_its_own() -> None:
    pages = httpx2.MockTransport(lambda _: httpx2.Response(200, html="<html>a page</html>"))
    with httpx2.Client(transport=pages) as http, pytest.raises(InvalidAnswer, match="cannot be read"):
        Client("http://localhost", http_client=http, max_retries=0).classify("sentiment", "a film")


@forms
def test_an_adapter_is_published_from_files_a_folder_a_run_and_archives(
    server: RunningServer, tiny: Backbone, tmp_path: Path, form: Form
) -> None:
    folder, sources = tmp_path / "run" / "adapter", dict[str, object]()
    files = to_files(make_adapter(tiny, seed=1))
    write_folder(folder, files)
    (folder / "training_args.bin").write_bytes(b"unrelated")
    with zipfile.ZipFile(tmp_path / "adapter.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(f"some/folder/{name}", data)
    with tarfile.open(tmp_path / "adapter.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "run", "run")
    sources = {
        "files": files,
        "folder": folder,
        "run": str(tmp_path / "run"),
        "zip": tmp_path / "adapter.zip",
        "tar": tmp_path / "adapter.tar.gz",
    }
    digest = from_files(files).digest
    made = {
        name: ask(form, server.url, lambda client, source=source: client.tasks.publish("new", source, digest=digest))
        for name, source in sources.items()
    }
    assert {(each.version, each.digest) for each in made.values()} == {(1, digest)}
    assert [each.created for each in made.values()] == [True, False, False, False, False]
    copy = ask(form, server.url, lambda client: client.tasks.download("new", 1, tmp_path / "copy"))
    assert from_files(read_folder(copy)).digest == digest
    with pytest.raises(FileExistsError):
        ask(form, server.url, lambda client: client.tasks.download("new", 1, tmp_path / "copy"))


def test_a_source_without_an_adapter_is_refused_before_it_is_sent(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "superpos.json").symlink_to("/etc/hostname")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a/superpos.json", b"{}")
        archive.writestr("b/superpos.json", b"{}")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("superpos.json", bytes(20 << 20))
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        link = tarfile.TarInfo("superpos.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link, io.BytesIO())
    with Client(server.url) as client:
        for name, kind, mention in (
            ("none", FileNotFoundError, "no such folder or archive"),
            ("empty", ValueError, "has no superpos.json"),
            ("file", ValueError, "neither a folder nor"),
            ("link", ValueError, "is a link"),
            ("links.tar", ValueError, "has no superpos.json"),
            ("two.zip", ValueError, "has 2 adapters, in 'a', 'b'"),
            ("bomb.zip", ValueError, "accepts uploads of at most"),
        ):
            with pytest.raises(kind, match=mention):
                client.tasks.publish("new", tmp_path / name)
        assert [each.task for each in client.tasks.list()] == ["pair", "sentiment"]


@forms
def test_a_long_list_of_tasks_is_read_in_pages(
    shared_server: RunningServer, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(form, shared_server.url, lambda client: client.tasks.page(limit=1))
    assert ([each.task for each in first.tasks], first.total, first.cursor) == (["pair"], 2, "pair")
    rest = ask(form, shared_server.url, lambda client: client.tasks.page(cursor=first.cursor))
    assert ([each.task for each in rest.tasks], rest.cursor) == (["sentiment"], None)
    monkeypatch.setattr("superpos_client.calls.PAGE", 1)
    tasks = ask(form, shared_server.url, lambda client: client.tasks.list())
    assert [each.task for each in tasks] == ["pair", "sentiment"]


@forms
def test_a_release_from_publication_to_rollback(server: RunningServer, tiny: Backbone, form: Form) -> None:
    def do(call: Callable[[Client], object]) -> object:
        return ask(form, server.url, call)

    made: object = do(
        lambda client: client.tasks.publish("sentiment", to_files(make_adapter(tiny, seed=2)), aliases=["canary"])
    )
    assert made.version == 2
    assert [each.version for each in do(lambda client: client.tasks.versions("sentiment"))] == [1, 2]
    before = do(lambda client: client.tasks.traffic("sentiment"))
    set_traffic = do(
        lambda client: client.tasks.set_traffic("sentiment", canary=2, percent=50, shadow=2, if_match=before.etag)
    )
    assert (set_traffic.canary, set_traffic.percent, set_traffic.shadow) == (2, 50, 2)
    with pytest.raises(PreconditionFailed):
        do(lambda client: client.tasks.end_traffic("sentiment", if_match=before.etag))
    do(lambda client: client.tasks.end_traffic("sentiment"))
    tag = do(lambda client: client.tasks.alias("sentiment")).etag
    with pytest.raises(Conflict) as caught:
        do(lambda client: client.tasks.promote("sentiment", 2))
    assert caught.value.code == "promotion_refused"
    done = do(lambda client: client.tasks.promote("sentiment", 2, force=True, if_match=tag))
    assert (done.previous, done.version, done.metric) == (1, 2, None)
    with pytest.raises(PreconditionFailed):
        do(lambda client: client.tasks.promote("sentiment", 1, force=True, if_match=tag))
    moved = do(lambda client: client.tasks.roll_back("sentiment", expected=2))
    assert (moved.previous, moved.version) == (2, 1)
    changes = do(lambda client: client.tasks.history("sentiment"))
    assert [each.action for each in changes][-2:] == ["alias_set", "alias_set"]
    assert do(lambda client: client.tasks.history("sentiment", since=changes[-2].position)) == changes[-1:]
    do(lambda client: client.tasks.delete_alias("sentiment", "canary"))
    do(lambda client: client.tasks.delete_version("sentiment", 2, if_match=f'"{made.digest}"'))
    detail = do(lambda client: client.tasks.get("sentiment"))
    assert (detail.aliases, [each.version for each in detail.versions]) == ({"production": 1}, [1])
    assert detail.current.spec["template"] == SENTIMENT.template
    assert do(lambda client: client.tasks.adapter("sentiment", 1)).digest == detail.versions[0].digest
    names = do(lambda client: client.tasks.files("sentiment", 1))
    manifest = do(lambda client: client.tasks.file("sentiment", 1, "superpos.json"))
    assert "superpos.json" in names
    assert json.loads(manifest)["task"]["template"] == SENTIMENT.template


@pytest.fixture(scope="module")
def keyed(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, tiny: Backbone) -> RunningServer:
    with running_servers(tiny_t5, tmp_path_factory.mktemp("keyed"), cache_dir) as start:
        server = start(require_keys=True, admin_key=ADMIN_KEY)
        server.upload("sentiment", make_adapter(tiny), key=ADMIN_KEY)
        yield server


@forms
def test_tenants_and_keys_are_managed_and_what_was_done_is_in_the_log(keyed: RunningServer, form: Form) -> None:
    tenant = f"acme-{form}"

    def do(call: Callable[[Client], object], key: str = ADMIN_KEY) -> object:
        return ask(form, keyed.url, call, api_key=key)

    assert do(lambda client: client.tenants.create(tenant, requests_per_s=20)).requests_per_s == 20
    assert do(lambda client: client.tenants.update(tenant, requests_per_s=None, weight=2.0)).weight == 2
    assert do(lambda client: client.tenants.get(tenant)).requests_per_s is None
    assert tenant in [each.id for each in do(lambda client: client.tenants.list())]
    made = do(lambda client: client.keys.create(tenant, "publish", note="tests"))
    assert made.key not in repr(made)
    with pytest.raises(Forbidden):
        do(lambda client: client.tenants.list(), made.key)
    assert do(lambda client: client.tasks.list(), made.key) == []
    assert do(lambda client: client.keys.update(tenant, made.id, default_task="topic@2")).default_task == "topic@2"
    assert do(lambda client: client.keys.update(tenant, made.id, default_task=None)).default_task is None
    turned = do(lambda client: client.keys.rotate(tenant, made.id, overlap_s=0))
    with pytest.raises(Unauthorized):
        do(lambda client: client.tasks.list(), made.key)
    assert do(lambda client: client.tasks.list(), turned.key) == []
    assert [each.note for each in do(lambda client: client.keys.list(tenant))] == ["tests"]
    do(lambda client: client.keys.revoke(tenant, made.id))
    do(lambda client: client.tenants.delete(tenant))
    actions = [each.action for each in do(lambda client: client.audit.accounts()) if each.tenant == tenant]
    assert actions == [
        "tenant_created",
        "tenant_updated",
        "key_created",
        "key_updated",
        "key_updated",
        "key_rotated",
        "key_revoked",
        "tenant_deleted",
    ]
    assert "sentiment" in [each.task for each in do(lambda client: client.audit.tasks())]


@forms
def test_usage_and_readiness(keyed: RunningServer, form: Form) -> None:
    def do(call: Callable[[Client], object]) -> object:
        return ask(form, keyed.url, call, api_key=ADMIN_KEY)

    do(lambda client: client.classify("sentiment", ["a film", "another"]))
    found = do(lambda client: client.usage(task="sentiment"))
    assert (found.tenant, {each.task for each in found.usage} | {"sentiment"}) == ("default", {"sentiment"})
    assert do(lambda client: client.usage_csv()).startswith("tenant,task,day,")
    ready = do(lambda client: client.readiness())
    assert ready.is_ready
    assert ready.tasks >= 1
    assert do(lambda client: client.limits()).max_rows_per_request == keyed.settings.max_rows_per_request
    raw = do(lambda client: client.request("GET", "/healthz/live"))
    assert json.loads(raw.content) == {"status": "live"}


def test_the_environment_names_the_server_and_the_key(
    keyed: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SUPERPOS_URL", f"{keyed.url}/")
    monkeypatch.setenv("SUPERPOS_API_KEY", ADMIN_KEY)
    with Client() as client:
        assert client.classify("sentiment", "a film").task == "sentiment"
    monkeypatch.delenv("SUPERPOS_API_KEY")
    (tmp_path / "key").write_text(f"{ADMIN_KEY}\n", encoding="utf-8")
    monkeypatch.setenv("SUPERPOS_API_KEY_FILE", str(tmp_path / "key"))
    with Client() as client:
        assert client.classify("sentiment", "a film").task == "sentiment"


@pytest.mark.parametrize("form", [Client, AsyncClient])
def test_arguments_that_cannot_work_are_refused_and_a_key_is_never_shown(form: type[Client]) -> None:
    for options, mention in (
        ({"url": "localhost:8080"}, "'localhost:8080' is not a valid address"),
        ({"url": "http://"}, "is not a valid address"),
        ({"timeout": 0}, "timeout is 0"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"api_key": "se cret"}, "the API key has characters that no key has"),
    ):
        with pytest.raises(ValueError, match=mention) as caught:
            form(**options)
        assert "se cret" not in str(caught.value)


def test_a_password_in_the_address_is_not_in_messages() -> None:
    with pytest.raises(SuperposError) as caught, Client("http://me:hunter2@127.0.0.1:9", max_retries=0) as client:
        client.classify("sentiment", "a film")
    assert "hunter2" not in str(caught.value)
    assert "cannot reach http://127.0.0.1:9" in str(caught.value)


def test_options_are_changed_without_new_connections(shared_server: RunningServer) -> None:
    with Client(shared_server.url, timeout=9) as client:
        other = client.with_options(timeout=1, max_retries=0)
        assert other.classify("sentiment", "a film").label == client.classify("sentiment", "a film").label
    with pytest.raises(RuntimeError, match="the client is closed"):
        other.classify("sentiment", "a film")


def test_threads_share_a_client(shared_server: RunningServer) -> None:
    with Client(shared_server.url) as client:
        expected = client.classify("sentiment", "a film").scores
        found: list[dict[str, float]] = []
        threads = [
            threading.Thread(target=lambda: found.append(client.classify("sentiment", "a film").scores))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [expected] * 8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_async_client_works_in_one_event_loop_after_another(shared_server: RunningServer) -> None:
    """Connections of an earlier loop, which nobody closed there, are left to the collector."""
    client = AsyncClient(shared_server.url)
    labels = [asyncio.run(client.classify("sentiment", "a film")).label for _ in range(3)]
    assert len(set(labels)) == 1
    del client
    gc.collect()  # within this test, which expects the warnings


def test_an_async_client_with_an_http_client_of_another_loop_says_so(shared_server: RunningServer) -> None:
    async def once(client: AsyncClient) -> Prediction:
        return await client.classify("sentiment", "a film")

    async def first() -> AsyncClient:
        http = httpx2.AsyncClient()
        client = AsyncClient(shared_server.url, http_client=http)
        await once(client)
        await http.aclose()
        return client

    client = asyncio.run(first())
    with pytest.raises(RuntimeError, match="another event loop has used"):
        asyncio.run(once(client))


@forms
@pytest.mark.slow
def test_the_engine_runs_in_this_process_with_the_same_answers(
    shared_server: RunningServer, tiny_t5: Path, tiny: Backbone, tmp_path: Path, form: Form
) -> None:
    texts = [f"film {number}" for number in range(40)]
    options = {"backbone": str(tiny_t5), "cache_dir": shared_server.settings.cache_dir, "poll_interval_s": 0.02}

    def use(client: Client) -> list[Prediction]:
        client.tasks.publish("sentiment", to_files(make_adapter(tiny)))
        with pytest.raises(NotFound):
            client.classify("nothing", "a film")
        with pytest.raises(SuperposError):
            client.classify("sentiment", "a film", timeout=0.0001)
        return list(client.classify_many("sentiment", texts, chunk=8))

    async def use_async() -> list[Prediction]:
        async with AsyncClient.local(str(tmp_path / "registry.sqlite"), **options) as client:
            await client.tasks.publish("sentiment", to_files(make_adapter(tiny)))
            with pytest.raises(NotFound):
                await client.classify("nothing", "a film")
            return [each async for each in client.classify_many("sentiment", texts, chunk=8)]

    if form == "sync":
        with Client.local(str(tmp_path / "registry.sqlite"), **options) as client:
            found = use(client)
    else:
        found = asyncio.run(use_async())
    with Client(shared_server.url) as client:
        expected = client.classify("sentiment", texts)
    assert [each.scores for each in found] == [each.scores for each in expected]
    assert [thread for thread in threading.enumerate() if thread.name == "superpos-engine"] == []


def test_a_setting_that_the_engine_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_rows_per_reqest"):
        Client.local(str(tmp_path / "registry.sqlite"), max_rows_per_reqest=4)
