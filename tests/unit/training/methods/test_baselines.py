"""ATTEMPT, fine-tuning, LoRA, bottlenecks, one-shot prompting: same rows, scored the same way, and no adapter left."""

import dataclasses
import json
import math
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
from training.config.arguments import TrainArguments
from training.config.choices import MethodName
from training.errors import InvalidArguments
from training.methods import FineTuning, OneShot
from training.methods.inner import Bottleneck, with_bottlenecks, with_lora
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


@pytest.mark.parametrize("method", ["lora", "houlsby"])
@pytest.mark.slow
def test_small_weights_in_the_network_train_and_leave_no_adapter(
    tiny: Backbone, untouched: dict[str, Tensor], task: TaskFile, tmp_path: Path, method: MethodName
) -> None:
    arguments = dataclasses.replace(QUICK, method=method, lr=0.03, epochs=4, rank=4, bottleneck=8)
    report = run(tiny, task, tmp_path / "run", arguments).report
    assert report.adapter is None
    assert report.trained.loss < report.untrained.loss * 0.9
    for name, tensor in tiny.weights.tensors().items():
        assert torch.equal(tensor, untouched[name]), name
    state = RunFolder(tmp_path / "run", resume=True).read_method()
    assert all(("lora_" in name) if method == "lora" else ("bottlenecks" in name or "norm" in name) for name in state)
    num_weights = sum(tensor.numel() for tensor in tiny.weights.tensors().values())
    assert sum(tensor.numel() for tensor in state.values()) < num_weights / 3


def test_lora_is_a_product_of_low_rank_added_to_query_and_value(tiny: Backbone) -> None:
    model = with_lora(to_transformers(tiny).requires_grad_(True), rank=3, seed=1)
    query = model.encoder.block[0].layer[0].SelfAttention.q
    hidden = torch.randn(5, tiny.width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(query(hidden), query.base_layer(hidden)), "it starts at the frozen weights"
        down, up = query.lora_A.default.weight, query.lora_B.default.weight
        up.copy_(torch.randn(up.shape, generator=torch.Generator().manual_seed(4)))
        expected = hidden @ query.base_layer.weight.T + hidden @ down.T @ up.T
        torch.testing.assert_close(query(hidden), expected, rtol=1e-4, atol=1e-4)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".q.lora_" in name or ".v.lora_" in name for name in trained)


def test_an_adapter_is_a_bottleneck_with_a_skip_connection_that_starts_near_it(tiny: Backbone) -> None:
    adapter = Bottleneck(tiny.width, 4, generator=torch.Generator().manual_seed(1))
    hidden = torch.randn(5, tiny.width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        inner = hidden.double() @ adapter.down.double().T + adapter.down_bias.double()
        gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        expected = hidden + gelu @ adapter.up.double().T + adapter.up_bias.double()
        torch.testing.assert_close(adapter(hidden).double(), expected, rtol=1e-4, atol=1e-5)
        assert (adapter(hidden) - hidden).abs().max() < 0.05 * hidden.abs().max()


def test_adapters_follow_every_attention_and_feed_forward_layer(tiny: Backbone) -> None:
    model = with_bottlenecks(to_transformers(tiny).requires_grad_(True), bottleneck=4, seed=1)
    architecture = tiny.architecture
    assert len(model.bottlenecks) == 2 * architecture.num_encoder_layers + 3 * architecture.num_decoder_layers
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("bottlenecks" in name or "layer_norm" in name for name in trained)
    before = FineTuning(model, weight_decay=0.0).scores(tiny.label_trie(["sports", "business"]), IDS)
    with torch.no_grad():
        for adapter in model.bottlenecks:
            adapter.up_bias.add_(1.0)
    after = FineTuning(model, weight_decay=0.0).scores(tiny.label_trie(["sports", "business"]), IDS)
    assert not torch.allclose(before, after), "its output reaches the answers"


def test_one_shot_prompting_reads_an_example_of_each_label_before_every_text(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    report = run(tiny, task, tmp_path / "run", TrainArguments(method="one_shot")).report
    assert report.adapter is None
    assert report.result.stop == "finished"
    assert report.trained.loss == pytest.approx(report.measured.metrics.loss)
    examples = RunFolder(tmp_path / "run", resume=True).read_method()["examples"].tolist()
    (ask,) = tiny.tokenizer.pieces(["answer:"])
    answers = tiny.tokenizer.pieces(["answer: sports", "answer: business"])
    method = OneShot(tiny)
    method.load_state({"examples": torch.tensor(examples)})
    trie = tiny.label_trie(["sports", "business"])
    whole = [[*examples, *ids[:-1], *ask, ids[-1]] for ids in IDS]
    none = torch.zeros(0, tiny.width)
    np.testing.assert_allclose(predict(tiny, method, trie, IDS), predict(tiny, none, trie, whole), atol=1e-5)
    for answer in answers:
        assert sum(examples[i : i + len(answer)] == answer for i in range(len(examples))) == 1


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


@pytest.mark.parametrize("method", ["spot", "mixture", "panda"])
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
