"""What `superpos serve` says once it is ready: a command that can be pasted into a shell and is answered."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from support.adapters import PAIR, make_adapter
from support.server_process import server_process
from support.waiting import eventually

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2", "--log-format", "console")], ids=" ".join)
def test_the_ready_line_has_a_command_that_works(
    tiny_t5: Path, tiny: Backbone, tmp_path: Path, options: tuple[str, ...]
) -> None:
    place = tmp_path / "registry.sqlite"
    open_registry(place).publish("default", "pair", to_files(make_adapter(tiny, PAIR)), actor="test")
    with server_process(tiny_t5, place, *options, wait=False, SUPERPOS_BUNDLED="false") as server:
        eventually(lambda: any("/classify/pair" in line for line in list(server.lines)), within_s=60)
        line = next(line for line in server.lines if "/classify/pair" in line)
        command = line if "console" in options else json.loads(line)["try"]
        assert command.startswith("curl -s http://127.0.0.1:")
        done = subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["predictions"][0]["label"]
