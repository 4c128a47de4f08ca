"""Weights in a mapped file: the same numbers, answers and identity, once in memory for all, and never half a file."""

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from support.backbone import mixed_rows

from backbone import Backbone, BackboneCacheError, load, pack
from backbone.sharing import fault, open_shared, save

READ_AND_WAIT = """
import sys
from pathlib import Path
from backbone.sharing import open_shared
tensors = open_shared(Path(sys.argv[1]))
print(sum(float(tensor.sum()) for tensor in tensors.values()), flush=True)
sys.stdin.read()
"""


def test_tensors_come_back_to_the_bit_by_their_names(tiny: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "new" / "weights.safetensors"
    tensors = tiny.weights.tensors()
    save(tensors, path)
    found = open_shared(path)
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert not any(tensor.requires_grad for tensor in found.values())


def test_a_tensor_under_two_names_is_one_in_the_file_and_in_memory(tmp_path: Path) -> None:
    table = torch.randn(100, 64)
    save({"embedding": table, "head": table, "turned": table.T, "part": table[1:]}, tmp_path / "w")
    found = open_shared(tmp_path / "w")
    assert found["head"].data_ptr() == found["embedding"].data_ptr()
    assert torch.equal(found["turned"], table.T)
    assert torch.equal(found["part"], table[1:])
    assert (tmp_path / "w").stat().st_size < 3 * table.nbytes + 4_096


def test_of_many_writers_at_once_one_writes_and_all_read_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "w"

    def write(number: int) -> float:
        save({"w": torch.full((1_000, 64), float(number))}, path)
        return float(open_shared(path)["w"].unique().item())

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(write, range(8)))) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"w", "w.lock", "w.sha256"}


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    save({"w": torch.zeros(3)}, tmp_path / "w")
    save({"w": torch.ones(3)}, tmp_path / "w")
    assert torch.equal(open_shared(tmp_path / "w")["w"], torch.zeros(3))


def test_a_writer_that_fails_leaves_nothing_that_could_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        save({"w": torch.zeros(3, device="meta")}, tmp_path / "w")
    assert {file.name for file in tmp_path.iterdir()} <= {"w.lock"}


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    save({"w": torch.zeros(1_000)}, tmp_path / "w")
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:1_000])
    with pytest.raises(SafetensorError):
        open_shared(tmp_path / "w")
    with pytest.raises(OSError, match="No such file"):
        open_shared(tmp_path / "none")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_two_processes_have_the_pages_once(tmp_path: Path) -> None:
    path = tmp_path / "w"
    size_kb = 128 << 10
    save({f"w{i}": torch.randn(1_024, 1_024) for i in range(size_kb >> 12)}, path)
    with ExitStack() as stack:
        command = [sys.executable, "-c", READ_AND_WAIT, str(path)]
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        sums = [process.stdout.readline() for process in processes if process.stdout]
        assert sums[0] == sums[1] != ""
        for process in processes:
            memory = mapped_kb(process.pid, path)
            assert memory["Rss"] >= 0.99 * size_kb
            assert memory["Pss"] <= 0.51 * size_kb
            assert memory["Private_Dirty"] == 0


def mapped_kb(pid: int, path: Path) -> dict[str, int]:
    """What a process holds of a file, summed over its mappings."""
    total: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = words[-1] == str(path)
        elif inside and words[-1] == "kB":
            total[words[0][:-1]] = total.get(words[0][:-1], 0) + int(words[1])
    return total


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_shared_weights_answer_to_the_bit_as_a_processs_own(
    folder: str, cache_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = str(request.getfixturevalue(folder))
    own = load(path, cache_dir=cache_dir)
    shared = load(path, cache_dir=tmp_path, share_weights=True)
    again = load(path, cache_dir=tmp_path, share_weights=True)
    assert len(list((tmp_path / "shared").glob("*.safetensors"))) == 1
    tensors = shared.weights.tensors()
    assert own.weights.tensors().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in own.weights.tensors().items())
    assert own.identity == shared.identity == again.identity
    rows, table, label_sets = mixed_rows(own)
    tries = [own.label_trie(labels) for labels in label_sets]
    with torch.inference_mode():
        expected, *found = (each.score(each.encode(pack(rows), table), tries) for each in (own, shared, again))
    assert all(torch.equal(expected, scores) for scores in found)


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tiny_t5: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a file where a folder belongs")
    with pytest.raises(BackboneCacheError, match="cannot share weights in"):
        load(str(tiny_t5), cache_dir=tmp_path, share_weights=True)


def swapped(path: Path) -> None:
    save({"w": torch.full((1_000,), 666.0)}, path.with_name("evil"))
    path.with_name("evil").replace(path)


def same_size(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def by_symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def by_hard_link(path: Path) -> None:
    path.with_name("second").hardlink_to(path)


def writable_by_all(path: Path) -> None:
    path.chmod(0o666)


def of_another_user(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(path, 12_345, -1)


def with_a_record_of_its_own(path: Path) -> None:
    swapped(path)
    record = path.with_name(path.name + ".sha256")
    record.unlink()
    record.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    record.chmod(0o666)


def without_a_record(path: Path) -> None:
    path.with_name(path.name + ".sha256").unlink()


@pytest.mark.parametrize(
    "attack",
    [
        swapped,
        same_size,
        truncated,
        by_symlink,
        by_hard_link,
        writable_by_all,
        of_another_user,
        with_a_record_of_its_own,
        without_a_record,
    ],
)
def test_weights_that_another_user_touched_are_not_mapped_but_made_again(
    tmp_path: Path, attack: Callable[[Path], None]
) -> None:
    path, sound = tmp_path / "shared" / "w", {"w": torch.arange(1_000.0)}
    save(sound, path)
    assert fault(path) is None
    attack(path)
    assert fault(path) is not None
    save(sound, path)
    assert fault(path) is None
    assert torch.equal(open_shared(path)["w"], sound["w"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_that_all_may_write_is_closed_and_a_planted_lock_destroys_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (tmp_path / "precious").write_text("keep")
    (folder / "w.lock").symlink_to(tmp_path / "precious")
    save({"w": torch.zeros(3)}, folder / "w")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (tmp_path / "precious").read_text() == "keep"
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(NotADirectoryError, match="SUPERPOS_CACHE_DIR"):
        save({"w": torch.zeros(3)}, tmp_path / "link" / "w")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused_in_one_line(tiny_t5: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", 12_345, -1)
    with pytest.raises(BackboneCacheError, match="belongs to user 12345"):
        load(str(tiny_t5), cache_dir=tmp_path, share_weights=True)
