"""The registry when a process is killed in the middle of its writes: whatever is there is whole."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.redis import RedisServer
from support.registry import Store, Uploads

from adapters import Registry, RegistryUnavailable
from adapters.files import from_files, write_folder
from adapters.registry.opening import open_registry
from service.catalog.catalog import Catalog

ROOT = Path(__file__).parents[4]

# one process that has everything loaded forks a writer for each kill
WRITE_AND_BE_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
from adapters.files import read_folder
from adapters.registry.opening import open_registry

place, folder, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
uploads = [read_folder(one) for one in sorted(Path(folder).iterdir())]
chance = random.Random(7)
for number in range(kills):
    reading, writing = os.pipe()
    writer = os.fork()
    if writer == 0:
        registry, task = open_registry(place), f"task-{number}"
        os.write(writing, b".")
        while True:
            for files in uploads:
                version = registry.publish("acme", task, files, actor="writer").version
                os.write(writing, b".")
                for old in registry.describe("acme", task).versions[:-1]:
                    registry.delete("acme", task, old.version, actor="writer")
    for _ in range(1 + number % 4):
        os.read(reading, 1)
    time.sleep(chance.uniform(0, 0.005))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(reading), os.close(writing)
"""

MOVE_AN_ALIAS = """
import sys
from adapters import Conflict
from adapters.registry.opening import open_registry

registry, version = open_registry(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    try:
        registry.set_alias("acme", "sst2", "production", version, actor="mover", expected=int(line))
    except Conflict:
        print("lost", flush=True)
    else:
        print("won", flush=True)
"""


def assert_whole(registry: Registry, tenant: str) -> None:
    """Version ⇒ files of its digest ⇒ entry in the log ⇒ the alias that came with it, and the log means the state."""
    changes = registry.changes()
    published = {(c.task, c.version): c.digest for c in changes if c.kind == "published"}
    for info in registry.list(tenant):
        for version in info.versions:
            assert from_files(registry.get(version.digest)).digest == version.digest
            assert published[info.task, version.version] == version.digest
        newest = max(version for task, version in published if task == info.task)
        assert info.aliases["production"] == newest == info.versions[-1].version
    assert [c.position for c in changes] == list(range(1, len(changes) + 1))
    replayed = Catalog()
    replayed.apply(changes)
    assert replayed.tasks(tenant) == list(registry.list(tenant))


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_every_task_whole(store: Store, uploads: Uploads, tmp_path: Path) -> None:
    registry = store.open()
    for number, files in enumerate(uploads[:6]):
        write_folder(tmp_path / "uploads" / str(number), files)
    command = [sys.executable, "-c", WRITE_AND_BE_KILLED, store.place, str(tmp_path / "uploads"), "30"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert_whole(registry, "acme")
    assert len(registry.list("acme")) >= 22  # each fourth writer may be killed before its first version
    assert registry.publish("acme", "task-0", uploads[7], actor="after").created
    assert_whole(registry, "acme")


@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.slow
def test_a_redis_killed_at_any_moment_has_every_task_whole(
    start_redis: Callable[..., RedisServer], uploads: Uploads, fsync: str
) -> None:
    server = start_redis("--appendfsync", fsync)
    registry = open_registry(server.url)
    chance = random.Random(7)
    acknowledged: list[tuple[str, int, str]] = []

    def publish(task: str, some: threading.Event) -> None:
        try:
            for files in uploads:
                done = registry.publish("acme", task, files, actor="ann")
                acknowledged.append((task, done.version, done.digest))
                if done.version >= enough:
                    some.set()
        except RegistryUnavailable:
            some.set()

    for number in range(8):
        enough = chance.randint(1, 60)
        some = threading.Event()
        writer = threading.Thread(target=publish, args=(f"task-{number}", some))
        writer.start()
        assert some.wait(30)
        server.kill()
        writer.join(30)
        server.start()
        assert_whole(registry, "acme")
    kept = {(info.task, v.version, v.digest) for info in registry.list("acme") for v in info.versions}
    unanswered = len(kept - set(acknowledged))
    assert unanswered <= 8  # at most the one of each round whose answer was lost
    if fsync == "always":  # each second: Redis answers before it writes where the disk is busy, and may lose a tail
        assert set(acknowledged) <= kept


@pytest.mark.slow
def test_of_processes_that_move_an_alias_from_the_same_place_one_wins_each_round(
    store: Store, uploads: Uploads
) -> None:
    registry = store.open()
    for files in uploads[:5]:
        registry.publish("acme", "sst2", files, actor="ann", aliases=())
    registry.set_alias("acme", "sst2", "production", 5, actor="ann")
    position = registry.changes()[-1].position
    command = [sys.executable, "-c", MOVE_AN_ALIAS, store.place]
    movers = [
        subprocess.Popen(
            [*command, str(version)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for version in range(1, 5)
    ]
    try:
        for mover in movers:
            assert mover.stdout is not None
            assert mover.stdout.readline() == "ready\n"
        for _ in range(25):
            current = registry.describe("acme", "sst2").aliases["production"]
            for mover in movers:
                assert mover.stdin is not None
                mover.stdin.write(f"{current}\n")
            said = [mover.stdout.readline().strip() for mover in movers if mover.stdout is not None]
            # who stands at the version already has nothing to move: it may be told that it won as well
            moved = registry.describe("acme", "sst2").aliases["production"]
            winners = [version for version, word in enumerate(said, 1) if word == "won" and version != current]
            assert winners == [moved]
    finally:
        for mover in movers:
            mover.kill()
            mover.communicate()
    assert len(registry.changes(position)) == 25
