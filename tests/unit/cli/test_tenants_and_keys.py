"""`superpos tenant` and `superpos key`, on a server and on the registry that it uses; keys with every other command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from support.adapters import make_adapter
from support.cli import Answer, superpos
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, bearer
from support.waiting import eventually

from adapters import InvalidName
from adapters.files import CARD, to_files, write_folder
from adapters.storage.opening import open_storage
from backbone import Backbone
from service.settings import Settings
from service.tenancy.accounts import open_accounts
from service.tenancy.admin_key import ensure_admin_key

Serve = Callable[..., RunningServer]
Ask = Callable[..., Answer]


@pytest.fixture
def server(place: str, serve: Serve) -> RunningServer:
    return serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)


@pytest.fixture(params=["server", "registry"])
def ask(request: pytest.FixtureRequest, server: RunningServer) -> Ask:
    """The command with its place: the server, with the administrator's key, or the registry itself, without one."""
    place = server.url if request.param == "server" else server.settings.registry

    def run(*words: object) -> Answer:
        key = {"SUPERPOS_API_KEY": ADMIN_KEY} if request.param == "server" else {}
        return superpos(*words, SUPERPOS_SERVER=place, **key)

    return run


def good(server: RunningServer, key: str) -> bool:
    return server.client.get("/tasks", headers=bearer(key)).status_code == 200


@pytest.mark.slow
def test_a_tenant_and_its_key_from_making_to_deleting(server: RunningServer, ask: Ask) -> None:
    assert ask("tenant", "create", "acme", "--requests-per-s", 20, "--max-tasks", 3).code == 0
    made = ask("key", "create", "acme", "--role", "publish", "--note", "nightly", "--expires-in-days", 1)
    assert made.code == 0, made.stderr
    first = made.stdout.strip()
    key_id = first.split("_")[1]
    assert first.startswith("sp_")
    assert f"key {key_id} of acme, role publish; it is not shown again" in made.stderr
    eventually(lambda: good(server, first), within_s=2)
    listed = ask("key", "list", "acme")
    assert key_id in listed.text
    assert {"publish", "nightly"} <= set(listed.text.split())
    assert first.split("_", 2)[2] not in listed.stdout + listed.stderr

    second = ask("key", "rotate", "acme", key_id, "--overlap-s", 0).stdout.strip()
    eventually(lambda: good(server, second) and not good(server, first), within_s=2)

    changed = ask("tenant", "update", "acme", "--weight", 2.5, "--no-limit", "max_tasks", "--suspend")
    assert changed.stdout == "tenant acme: weight 2.5, max_tasks no limit, suspended True\n"
    row = next(line for line in ask("tenant", "list").stdout.splitlines() if "acme" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "acme", "2.5", "20", "no limit", "no limit", "no limit", "no limit", "no limit",
        "none: no text is kept", "no limit", "no limit", "no limit", "no limit", "suspended",
    ]  # fmt: skip
    eventually(lambda: not good(server, second), within_s=2)
    assert ask("tenant", "update", "acme", "--resume").code == 0
    eventually(lambda: good(server, second), within_s=2)

    assert ask("key", "revoke", "acme", key_id).code == 0
    eventually(lambda: not good(server, second), within_s=2)
    assert ask("tenant", "delete", "acme").code == 0
    assert "acme" not in ask("tenant", "list").stdout


REFUSED = [
    ("tenant create Acme", ["id is 'Acme'"]),
    ("tenant create acme --weight 0", ["weight is 0"]),
    ("tenant create acme --max-tasks 0", ["max_tasks is 0"]),
    ("tenant update nobody --weight 2", ["no tenant 'nobody'"]),
    ("tenant update default", ["nothing to change"]),
    ("tenant update default --no-limit weight", ["--no-limit is 'weight'", "max_tasks"]),
    ("tenant delete default", ["cannot be deleted"]),
    ("key create default --role owner", ["role is 'owner'"]),
    ("key rotate default nokey", ["no key 'nokey'"]),
    ("key rotate default nokey --overlap-s -1", ["overlap_s is -1"]),
    ("key revoke default nokey", ["no key 'nokey'"]),
    ("key list nobody", ["no tenant 'nobody'"]),
]


@pytest.mark.slow
def test_a_refusal_is_one_line_that_names_the_value(shared_keyed: RunningServer) -> None:
    for words, mentions in REFUSED:
        server = superpos(*words.split(), SUPERPOS_SERVER=shared_keyed.url, SUPERPOS_API_KEY=ADMIN_KEY).refusal()
        direct = superpos(*words.split(), SUPERPOS_SERVER=shared_keyed.settings.registry).refusal()
        for mention in mentions:
            assert mention in server
            assert mention in direct


@pytest.fixture
def shared_keyed(serve: Serve) -> RunningServer:
    return serve(require_keys=True, admin_key=ADMIN_KEY)


@pytest.mark.slow
def test_every_command_that_asks_a_server_shows_the_key(
    shared_keyed: RunningServer, tiny: Backbone, tmp_path: Path
) -> None:
    adapter, url = make_adapter(tiny), shared_keyed.url
    files = to_files(adapter, card="# card\n")
    write_folder(tmp_path / "adapter", files)
    assert CARD in files
    commands = [
        ("push", tmp_path / "adapter", "sst2", "--to", url),
        ("import", tmp_path / "adapter", "imported", "--to", url),
        ("alias", "sst2", "canary", "1", "--to", url),
        ("traffic", "sst2", "--to", url),
        ("promote", "sst2", 1, "--force", "--to", url),
        ("list", "--from", url),
        ("classify", "sst2", "a gripping film", "--json", "--server", url),
        ("export", "sst2", tmp_path / "out", "--from", url),
    ]
    for words in commands:
        assert "401 unauthenticated" in superpos(*words).refusal(), words
        wrong = superpos(*words, "--key", "sp_x\n").refusal()
        assert "--key (SUPERPOS_API_KEY) is not a valid key" in wrong
        answer = superpos(*words, SUPERPOS_API_KEY=ADMIN_KEY)
        assert answer.code == 0, answer.stderr
        if words[0] == "classify":
            assert json.loads(answer.stdout)["adapter"] == adapter.digest
    assert superpos("list", "--from", url, "--key", ADMIN_KEY).code == 0


def test_a_server_that_everybody_could_reach_does_not_start_without_keys(tmp_path: Path, tiny_t5: Path) -> None:
    place = ("--backbone", tiny_t5, "--registry", tmp_path / "r.sqlite", "--port", "0")
    refusal = superpos("serve", "--host", "0.0.0.0", *place).refusal()
    for mention in ("setting host is '0.0.0.0'", "without keys", "loopback only", "require_keys"):
        assert mention in refusal
    with pytest.raises(ValidationError, match="admin_key and admin_key_file are both set"):
        Settings(admin_key=ADMIN_KEY, admin_key_file="key")


def test_an_administrators_key_that_is_none_is_refused_and_not_shown(tmp_path: Path) -> None:
    accounts = open_accounts(open_storage(str(tmp_path / "r.sqlite")))
    (tmp_path / "bad").write_text("hunter2", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, expected in (("bad", "sp_<id>_<secret>"), ("binary", "can be read"), ("none", "can be read")):
        with pytest.raises(InvalidName, match=expected) as caught:
            ensure_admin_key(accounts, None, tmp_path / name)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidName, match="admin_key '…' is not valid"):
        ensure_admin_key(accounts, SecretStr("hunter2"), None)
    assert accounts.store.revision() == 0


def test_a_server_with_keys_is_reached_from_elsewhere_with_the_key_of_its_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{ADMIN_KEY}\n", encoding="utf-8")
    server = serve(host="0.0.0.0", require_keys=True, admin_key_file=tmp_path / "key")
    assert good(server, ADMIN_KEY)
    assert server.client.get("/tasks").status_code == 401
