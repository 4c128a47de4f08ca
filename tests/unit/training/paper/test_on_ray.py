"""Grids on Ray: the same results as in one process, also those of a worker that dies; others are reported."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray import cloudpickle
from support import sweeps as support_sweeps
from support.paper import Heard, small_grid, two_tasks
from support.sweeps import load_or_die

from backbone import Backbone
from training.errors import InvalidArguments
from training.paper import on_ray
from training.paper.grid_folder import collect
from training.paper.on_ray import run_grid_on_ray, train_stack
from training.paper.results import CellResult
from training.paper.runner import run_grid
from training.ray_cluster import LOCAL, cluster

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.slow,
    pytest.mark.timeout(600),  # two processes import torch
]


@pytest.fixture
def local_ray() -> Iterator[None]:
    """A local Ray of two CPUs. Its workers cannot import what tests import, so that it is sent with the task."""
    cloudpickle.register_pickle_by_value(support_sweeps)
    with cluster(LOCAL, num_cpus=2):
        yield


def compared(cell: CellResult) -> CellResult:
    return cell.model_copy(update={"seconds": 0})


@pytest.mark.usefixtures("local_ray")
def test_a_grid_on_ray_has_the_results_of_one_process_though_a_worker_dies(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, *, cache_dir: Path
) -> None:
    tasks, grid, heard = two_tasks(tmp_path), small_grid(), Heard()
    one = dataclasses.replace(grid, tasks=("a",), seeds=(0,))
    lost = run_grid_on_ray(support_sweeps.die, tiny.identity.fingerprint, one, tasks, tmp_path / "lost")
    assert (lost.finished, set(lost.failed)) == ((), set(one.cells()))
    assert all(reason.startswith("its workers died") for reason in lost.failed.values())

    dying = tmp_path / "dying"
    dying.touch()
    load = functools.partial(load_or_die, str(tiny_t5), cache_dir, dying)
    there = tmp_path / "there"
    outcome = run_grid_on_ray(load, tiny.identity.fingerprint, grid, tasks, there, events=heard.events())
    assert not dying.exists(), "a worker has died"
    assert (outcome.failed, outcome.interrupted, len(outcome.finished)) == ({}, False, 8)
    assert sorted(heard.done) == sorted(map(str, grid.cells()))

    here = tmp_path / "here"
    run_grid(tiny, grid, tasks, here)
    cells = [[compared(cell) for cell in collect(folder, tiny).cells] for folder in (there, here)]
    assert cells[0] == cells[1]
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in (there, here)]
    assert {name for name in files[1] if not name.endswith("lock")} <= files[0]

    again = run_grid_on_ray(load, tiny.identity.fingerprint, grid, tasks, there)
    assert again.finished == (), "finished cells are not trained again"


def test_a_worker_with_another_backbone_is_refused(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_loaded", [])
    grid = small_grid(seeds=(0,))
    with pytest.raises(InvalidArguments, match=rf"fingerprint {tiny.identity.fingerprint}, expected sha256:0"):
        train_stack(lambda: tiny, "sha256:0", (grid, two_tasks(tmp_path)), grid.cells()[:1], "fp32")
