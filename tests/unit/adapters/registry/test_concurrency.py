"""The registry under several handles, threads and processes at once."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.registry import Store, Uploads

from adapters import Publication, Ref, TaskInfo
from adapters.files import write_folder

ROOT = Path(__file__).parents[4]


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
from adapters.registry.opening import open_registry
from adapters.files import read_folder

registry = open_registry(sys.argv[2])
uploads = [read_folder(folder) for folder in sorted(Path(sys.argv[1]).iterdir())]
print("ready", flush=True)
sys.stdin.readline()
print(*(registry.publish("acme", "sst2", files, actor="process").version for files in uploads))
"""


@pytest.mark.slow
def test_two_processes_publish_distinct_versions_with_no_gaps(store: Store, uploads: Uploads, tmp_path: Path) -> None:
    registry = store.open()
    for number, files in enumerate(uploads[:40]):
        write_folder(tmp_path / f"process-{number % 2}" / f"{number:02}", files)

    def start(number: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PUBLISH, str(tmp_path / f"process-{number}"), store.place]
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


@pytest.mark.slow
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


@pytest.mark.slow
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
