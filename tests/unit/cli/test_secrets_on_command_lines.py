"""`--key` in `ps`: no command needs a secret among its arguments, and no document shows one there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import superpos
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY
from typer.core import TyperCommand, TyperGroup

from cli.main import COMMANDS, load_command

Serve = Callable[..., RunningServer]
ROOT = Path(__file__).parents[3]


def commands(command: object, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Yield every command with its words."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, (*words, name))
    else:
        assert isinstance(command, TyperCommand)
        yield words, command


def test_a_key_in_ps() -> None:
    """Every option for a secret has a variable and reads files; every location of a store reads files."""
    keyed, placed = [], []
    every = [found for name in COMMANDS for found in commands(load_command(name), (name,))]
    for words, command in every:
        for parameter in command.params:
            if parameter.name == "key":
                assert parameter.envvar == "SUPERPOS_API_KEY", words
                assert parameter.callback is not None, words
                keyed.append(words)
            shown = str(getattr(parameter, "help", ""))
            if "redis://" in shown:
                assert "@FILE" in shown, words
                placed.append(words)
    assert len(keyed) >= 20
    assert len(placed) >= 10


@pytest.mark.slow
def test_a_key_is_read_from_a_file(serve: Serve, tmp_path: Path) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    key = tmp_path / "key"
    key.write_text(f"{ADMIN_KEY}\n", encoding="utf-8")
    list_tasks = ("list", "--from", server.url)
    assert superpos(*list_tasks, "--key", f"@{key}").code == 0
    assert superpos(*list_tasks, SUPERPOS_API_KEY_FILE=str(key)).code == 0
    assert superpos(*list_tasks, SUPERPOS_API_KEY=f"@{key}").code == 0
    assert superpos(*list_tasks, "--key", ADMIN_KEY).code == 0, "what worked goes on working"
    missing = superpos(*list_tasks, "--key", "@/nowhere/key").refusal()
    assert "cannot read @/nowhere/key" in missing
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "it is not text" in superpos(*list_tasks, SUPERPOS_API_KEY_FILE=str(binary)).refusal()
    key.write_text("hunter2", encoding="utf-8")
    refused = superpos(*list_tasks, "--key", f"@{key}").refusal()
    assert "is not a valid key" in refused
    assert "hunter2" not in refused


@pytest.mark.slow
def test_the_location_of_a_store_with_a_password_is_read_from_a_file(
    start_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    redis = start_redis("--requirepass", "open-sesame")
    place = tmp_path / "superpos_registry"
    place.write_text(f"redis://:open-sesame@127.0.0.1:{redis.port}\n", encoding="utf-8")
    made = superpos("key", "create", "default", "--role", "operator", "--to", f"@{place}")
    assert made.code == 0, made.stderr
    assert made.stdout.startswith("sp_")
    copied = superpos("registry", "copy", f"@{place}", tmp_path / "backup")
    assert copied.code == 0, copied.stderr
    back = superpos("registry", "copy", tmp_path / "backup", f"@{place}")
    for answer in (made, copied, back):
        assert "open-sesame" not in answer.stdout + answer.stderr


def test_no_document_shows_a_secret_among_arguments() -> None:
    shown = re.compile(r"--key[ =](?!@)\S*(sp_|\$)|superpos [^\n`]*redis(s)?://[^\s`]*:[^\s`/@]+@")
    documents = [*ROOT.glob("docs/*.md"), ROOT / "README.md", *ROOT.glob("cli/**/*.py"), *ROOT.glob("deploy/*.py")]
    assert len(documents) > 40
    for path in documents:
        found = shown.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: {found[0] if found else ''}"
