"""ATTEMPT and full fine-tuning: they train on the same rows, are scored the same way, and leave no adapter."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapters import make_adapter
from support.training import QUICK, SPEC, run
from torch import Tensor

from adapters.files import to_files, write_folder
from backbone import Backbone, load
from backbone.to_transformers import to_transformers
from training.errors import InvalidArguments
from training.methods import FineTuning
from training.runs.adapter_folder import read_sources
from training.runs.folder import RunFolder
from training.runs.run_result import read_run_result
from training.scoring.evaluation import predict
from training.task.task_file import TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = [(13, 14, 15, 1), (17, 18, 1)]


@pytest.fixture
def source_folders(tiny: Backbone, tmp_path: Path) -> tuple[str, ...]:
    """Two adapters' folders."""
    for seed in (1, 2):
        adapter = make_adapter(tiny, SPEC, seed=seed, num_virtual_tokens=6)
        write_folder(tmp_path / f"source{seed}", to_files(adapter))
    return (str(tmp_path / "source1"), str(tmp_path / "source2"))


@pytest.mark.slow
def test_attempt_trains_is_measured_and_leaves_no_adapter(
    tiny: Backbone, task: TaskFile, tmp_path: Path, source_folders: tuple[str, ...]
) -> None:
    arguments = dataclasses.replace(QUICK, method="attempt", sources=source_folders, bottleneck=8, lr=0.3, epochs=6)
    report = run(tiny, task, tmp_path / "run", arguments).report
    assert report.adapter is None
    assert not (tmp_path / "run" / "adapter").exists()
    assert report.trained.loss < report.untrained.loss / 2
    outcome = read_run_result(tmp_path / "run")
    assert outcome.digest is None
    assert outcome.trained.loss == pytest.approx(report.trained.loss, abs=1e-5)
    with pytest.raises(InvalidArguments, match="already holds a run"):
        RunFolder(tmp_path / "run")


@pytest.mark.parametrize("loss", ["labels", "full"])
@pytest.mark.slow
def test_full_fine_tuning_trains_a_model_of_its_own(
    tiny: Backbone, untouched: dict[str, Tensor], task: TaskFile, tmp_path: Path, loss: str
) -> None:
    arguments = dataclasses.replace(QUICK, method="full", lr=0.003, epochs=3, loss=loss, dropout=loss == "full")
    report = run(tiny, task, tmp_path / "run", arguments).report
    assert report.adapter is None
    assert report.trained.loss < report.untrained.loss / 2
    for name, tensor in tiny.weights.tensors().items():
        assert torch.equal(tensor, untouched[name]), name
    best = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert best["adapter"] is None


@pytest.mark.parametrize("folder", ["tiny_t5", "tiny_t5_v10"])
def test_an_unfolded_backbone_scores_as_the_packed_one_does(
    request: pytest.FixtureRequest, folder: str, cache_dir: Path
) -> None:
    backbone = load(str(request.getfixturevalue(folder)), cache_dir=cache_dir)
    method = FineTuning(to_transformers(backbone), weight_decay=0.0)
    for words in (["sports", "business"], ["world news", "sports", "world science"]):
        trie = backbone.label_trie(words)
        ours = predict(backbone, torch.zeros(0, backbone.width), trie, IDS)
        np.testing.assert_allclose(predict(backbone, method, trie, IDS), ours, atol=1e-4)


@pytest.mark.parametrize("method", ["spot", "mixture"])
def test_methods_with_sources_train_and_name_them_by_digest(
    tiny: Backbone, task: TaskFile, tmp_path: Path, source_folders: tuple[str, ...], method: str
) -> None:
    chosen = source_folders[:1] if method == "spot" else source_folders
    arguments = dataclasses.replace(QUICK, method=method, sources=chosen, epochs=1)
    adapter = run(tiny, task, tmp_path / "run", arguments, limit=24).report.adapter
    assert adapter is not None
    digests = [source.digest for source in read_sources(tiny, chosen)]
    assert adapter.manifest.provenance.hyperparameters["sources"] == " ".join(digests)


def test_a_source_for_another_backbone_is_refused(tiny: Backbone, embedded: Backbone, tmp_path: Path) -> None:
    write_folder(tmp_path / "other", to_files(make_adapter(embedded)))
    with pytest.raises(InvalidArguments, match=r"other: prompt width.*512"):
        read_sources(tiny, [str(tmp_path / "other")])
    with pytest.raises(InvalidArguments, match=r"none: adapter folder"):
        read_sources(tiny, [str(tmp_path / "none")])
    moved = make_adapter(tiny)
    strange = moved.manifest.backbone.model_copy(update={"fingerprint": f"sha256:{'0' * 64}"})
    manifest = moved.manifest.model_copy(update={"backbone": strange})
    write_folder(tmp_path / "same-width", to_files(dataclasses.replace(moved, manifest=manifest)))
    with pytest.raises(InvalidArguments, match="backbone fingerprint"):
        read_sources(tiny, [str(tmp_path / "same-width")])
