"""The upload fuzzer finds faults: one of each kind is planted in a server, and a short run must report it."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping

import psutil
import pytest
from support.adapters import make_adapter
from support.server import RunningServer

import adapters.adapter
import adapters.files
import adapters.task
from adapters import InvalidAdapter, PromptAdapter, Publication
from backbone import Backbone
from service.catalog.adapter_cache import AdapterCache
from service.releases.publisher import Publisher
from verification.upload_fuzz import __main__ as program
from verification.upload_fuzz.sending import attack

Patch = pytest.MonkeyPatch
UPLOADS = 60
MAX_SECONDS = 0.4
"""Time after which an upload counts as late here, so that the planted hang can be short."""


def plant_a_bug(patch: Patch, server: RunningServer) -> None:
    """Divide by zero where a label is checked that appears twice."""
    check = adapters.task._check_labels

    def divide(labels: tuple[adapters.task.Label, ...]) -> None:
        1 / len({label.name for label in labels} & {"negative", "positive"})
        check(labels)

    patch.setattr(adapters.task, "_check_labels", divide)


def plant_a_hang(patch: Patch, server: RunningServer) -> None:
    """Sleep at the first two sets of files that have a card, whenever they are sent."""
    parse, hanging = AdapterCache.parse, list[dict[str, bytes]]()

    def sleep(self: AdapterCache, files: Mapping[str, bytes]) -> PromptAdapter:
        if adapters.files.CARD in files and len(hanging) < 2:
            hanging.append(dict(files))
        if dict(files) in hanging:
            time.sleep(MAX_SECONDS + 0.1)
        return parse(self, files)

    patch.setattr(AdapterCache, "parse", sleep)


def plant_a_missing_check(patch: Patch, server: RunningServer) -> None:
    """Take adapters of every backbone."""
    patch.setattr(PromptAdapter, "check_backbone", lambda self, **_: None)


def plant_a_refusal_without_its_check(patch: Patch, server: RunningServer) -> None:
    """Refuse a set of files without a word on what is wrong with it."""

    def refuse(*_: object, **__: object) -> None:
        raise InvalidAdapter("", "", "")

    patch.setattr(adapters.files, "_check_names_and_sizes", refuse)


def plant_another_digest(patch: Patch, server: RunningServer) -> None:
    """Announce a digest that the published files do not have."""
    publish = Publisher.publish

    async def announce(self: Publisher, *args: object, **kwargs: object) -> Publication:
        return dataclasses.replace(await publish(self, *args, **kwargs), digest=f"sha256:{'0' * 64}")

    patch.setattr(Publisher, "publish", announce)


def plant_a_dropped_connection(patch: Patch, server: RunningServer) -> None:
    """Close all connections where an upload has a card."""
    parse = AdapterCache.parse

    def drop(self: AdapterCache, files: Mapping[str, bytes]) -> PromptAdapter:
        if adapters.files.CARD in files:
            for connection in list(server.server.server_state.connections):
                connection.transport.abort()
        return parse(self, files)

    patch.setattr(AdapterCache, "parse", drop)


@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        pytest.param(plant_a_bug, "500", id="a bug"),
        pytest.param(plant_a_hang, f"it takes more than {MAX_SECONDS} s each time", id="a hang"),
        pytest.param(plant_a_missing_check, "another backbone", id="a missing check"),
        pytest.param(plant_a_refusal_without_its_check, "no check is named", id="a refusal without its check"),
        pytest.param(plant_another_digest, "it was taken as sha256:000", id="another digest"),
        pytest.param(plant_a_dropped_connection, "hung up", id="a dropped connection"),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_a_planted_fault_is_found(
    plant: Callable[[Patch, RunningServer], None],
    complaint: str,
    serve: Callable[..., RunningServer],
    tiny: Backbone,
    monkeypatch: Patch,
) -> None:
    server = serve(bundled=False)
    plant(monkeypatch, server)
    found = asyncio.run(attack(server.url, make_adapter(tiny), uploads=UPLOADS, seed=1, max_seconds=MAX_SECONDS))
    assert any(complaint in wrong for _, wrong in found.violations), found.violations[:3]


@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile.SpooledTemporaryFile:ResourceWarning")
@pytest.mark.usefixtures("one_thread")
def test_a_planted_leak_is_found(serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: Patch) -> None:
    monkeypatch.setattr(program, "NUM_WARM_UP", 20)
    monkeypatch.setattr(program, "ADDRESS_SPACE_BYTES", 1 << 50)  # the server is this process
    server, kept, parse = serve(bundled=False), [], AdapterCache.parse

    def keep(self: AdapterCache, files: Mapping[str, bytes]) -> PromptAdapter:
        kept.append(bytearray(b"x") * (8 << 20))
        return parse(self, files)

    monkeypatch.setattr(AdapterCache, "parse", keep)
    memory = program.Memory(psutil.Process())
    asyncio.run(attack(server.url, make_adapter(tiny), uploads=80, seed=1, progress=memory.look))
    assert memory.growth_bytes > program.MAX_GROWTH_BYTES
