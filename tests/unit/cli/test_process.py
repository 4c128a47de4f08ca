"""The `superpos` command in a process of its own: whose `adapters` it imports, and how it exits."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Desk, superpos_process

import adapters
import cli
from service.server.sockets import listen


def test_the_adapters_package_that_is_imported_is_ours() -> None:
    assert adapters.SUPERPOS
    assert adapters.__file__ is not None
    assert cli.__file__ is not None
    assert Path(adapters.__file__).parent.parent == Path(cli.__file__).parent.parent


def test_another_package_of_that_name_is_refused_by_its_place(tmp_path: Path) -> None:
    other = tmp_path / "adapters" / "__init__.py"
    other.parent.mkdir()
    other.write_text("__version__ = '1.0.0'\n")
    answer = superpos_process("list", PYTHONPATH=str(tmp_path))
    message = answer.refusal()
    assert str(other) in message
    assert "pip uninstall adapters" in message
    assert answer.stdout == ""


@pytest.mark.slow
def test_a_refusal_in_a_shell_is_one_line_and_status_1(tmp_path: Path) -> None:
    answer = superpos_process("train", tmp_path / "none.yaml")
    assert answer.refusal().startswith(f"{tmp_path / 'none.yaml'}: cannot be read")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""


@pytest.mark.slow
def test_a_port_in_use_is_refused_before_the_registry_is_made(desk: Desk, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["--port", port, "--backbone", desk.tiny_t5, "--registry", tmp_path / "registry.sqlite"]
        message = superpos_process("serve", *words).refusal()
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert "--port" in message
    assert not (tmp_path / "registry.sqlite").exists()


def test_answers_do_not_wait_for_the_callers_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.slow
def test_the_bounds_of_kernel_caches_are_set_before_torch_comes_in_and_leave_a_users_own() -> None:
    code = (
        "import os, sys, cli.main\n"
        "assert 'torch' not in sys.modules\n"
        "from service.memory import bound_kernel_caches\n"
        "bound_kernel_caches()\n"
        "print(os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'], os.environ['LRU_CACHE_CAPACITY'])\n"
    )
    given = {**os.environ, "LRU_CACHE_CAPACITY": "7"}
    given.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["128", "7"]


@pytest.mark.slow
def test_a_server_with_sqlite_imports_no_client_of_redis() -> None:
    code = "import sys, cli.commands.serve, service.app; print([name for name in sys.modules if name == 'redis'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
