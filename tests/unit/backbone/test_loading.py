"""Loading backbones: the embedded one's conversion, directories, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.backbone import make_t5
from transformers import AutoTokenizer, BertConfig, T5Config, T5ForConditionalGeneration

from backbone import Backbone, BackboneCacheError, BackboneNotFound, DeviceUnavailable, UnsupportedBackbone, load
from backbone import embedded as embedded_module
from backbone.embedded import prepare

EMBEDDED_FINGERPRINT = "sha256:a07a71782fa5abceff322ae2672699ec844fed1b203d763b4a84f9d8c310a3f8"


def test_the_embedded_weights_fill_every_parameter_of_a_t5_and_no_other(embedded: Backbone, cache_dir: Path) -> None:
    folder = cache_dir / "embedded-0.2.0"
    model, report = T5ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) == 76_961_152
    assert len(load_file(folder / "model.safetensors")) == 190
    assert embedded.identity.fingerprint == EMBEDDED_FINGERPRINT


def test_a_backbone_that_is_prepared_is_used_without_writing_into_its_folder(cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "embedded-0.2.0").symlink_to(cache_dir / "embedded-0.2.0")
    assert prepare(tmp_path, pytest.fail) == tmp_path / "embedded-0.2.0"
    assert [path.name for path in tmp_path.iterdir()] == ["embedded-0.2.0"]


@pytest.mark.slow
def test_the_embedded_backbone_translates(embedded: Backbone, cache_dir: Path) -> None:
    folder = cache_dir / "embedded-0.2.0"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    text = "translate English to German: The house is wonderful."
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(model.generate(ids, max_new_tokens=20)[0], skip_special_tokens=True) == (
        "Das Haus ist wunderbar."
    )
    ours = embedded.tokenizer.tokenize([text], max_tokens=64, truncation="error")[0].token_ids
    assert list(ours) == ids[0].tolist()


@pytest.mark.slow
def test_preparing_again_does_nothing_and_damage_is_mended(tmp_path: Path) -> None:
    told: list[str] = []
    folder = prepare(tmp_path, told.append)
    assert len(told) == 2
    before = (folder / "model.safetensors").stat().st_mtime_ns
    prepare(tmp_path, told.append)
    assert len(told) == 2
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    prepare(tmp_path, told.append)
    assert len(told) == 4
    assert load("embedded", cache_dir=tmp_path).identity.fingerprint == EMBEDDED_FINGERPRINT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embedded-0.2.0", "embedded.lock"]


def test_a_missing_wheel_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_module, "WHEEL", "a-wheel-that-is-not-installed")
    with pytest.raises(BackboneNotFound, match=r"a-wheel-that-is-not-installed .* pip install"):
        prepare(tmp_path, lambda line: None)


def test_an_unwritable_cache_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BackboneCacheError, match="file/cache"):
        prepare(tmp_path / "file" / "cache", lambda line: None)


def test_fingerprints_tell_models_of_one_width_apart(tmp_path: Path, cache_dir: Path, tiny: Backbone) -> None:
    other = load(str(make_t5(tmp_path / "other", gated=True, seed=1)), cache_dir=cache_dir)
    same = load(str(make_t5(tmp_path / "same", gated=True, seed=0)), cache_dir=cache_dir)
    assert other.width == tiny.width
    assert other.identity.fingerprint != tiny.identity.fingerprint
    assert same.identity.fingerprint == tiny.identity.fingerprint


def test_a_model_of_another_kind_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackbone, match="'bert' model, expected 't5'"):
        load(str(tmp_path), cache_dir=cache_dir)


def test_an_activation_that_t5_never_had_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    folder = make_t5(tmp_path, gated=True, feed_forward_proj="gated-silu")
    with pytest.raises(UnsupportedBackbone, match="gated-silu"):
        load(str(folder), cache_dir=cache_dir)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = Path(shutil.copytree(tiny_t5, tmp_path / "t5"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["decoder.block.1.layer.1.EncDecAttention.k.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedBackbone, match=r"decoder\.block\.1\.layer\.1\.EncDecAttention\.k\.weight"):
        load(str(folder), cache_dir=cache_dir)


@pytest.mark.parametrize("gated", [True, False], ids=["v1.1", "v1.0"])
@pytest.mark.parametrize("form", ["bin", "shards", "shards of bin", "table under another name"])
def test_a_checkpoint_in_any_form_is_the_same_backbone(
    tiny_t5: Path, tiny_t5_v10: Path, tmp_path: Path, cache_dir: Path, *, gated: bool, form: str
) -> None:
    source = tiny_t5 if gated else tiny_t5_v10
    folder = Path(shutil.copytree(source, tmp_path / "t5"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if form == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    elif form == "table under another name":
        tensors["decoder.embed_tokens.weight"] = tensors.pop("shared.weight")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        name, kind = ("pytorch_model", "bin") if form == "shards of bin" else ("model", "safetensors")
        files = [f"{name}-0000{number}-of-00002.{kind}" for number in (1, 2)]
        parts = [dict(list(tensors.items())[number::2]) for number in (0, 1)]
        for file, part in zip(files, parts, strict=True):
            torch.save(part, folder / file) if kind == "bin" else save_file(part, folder / file)
        weight_map = {key: file for file, part in zip(files, parts, strict=True) for key in part}
        (folder / f"{name}.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    loaded, expected = (load(str(path), cache_dir=cache_dir) for path in (folder, source))
    assert loaded.identity.fingerprint == expected.identity.fingerprint
    for name, tensor in expected.weights.tensors().items():
        assert torch.equal(loaded.weights.tensors()[name], tensor)


def test_a_tensor_of_another_shape_is_refused_by_name(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = Path(shutil.copytree(tiny_t5, tmp_path / "t5"))
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedBackbone, match=r"wrong shape: \['lm_head\.weight'\]"):
        load(str(folder), cache_dir=cache_dir)


def test_encoder_and_decoder_with_different_tables_are_refused(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> None:
    folder = Path(shutil.copytree(tiny_t5, tmp_path / "t5"))
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.embed_tokens.weight"] = tensors["shared.weight"] + 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnsupportedBackbone, match="different embedding tables"):
        load(str(folder), cache_dir=cache_dir)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_directory_is_refused_by_name(
    tiny_t5: Path, tmp_path: Path, cache_dir: Path, missing: str
) -> None:
    folder = Path(shutil.copytree(tiny_t5, tmp_path / "t5"))
    (folder / missing).unlink()
    with pytest.raises(BackboneNotFound, match=str(folder)):
        load(str(folder), cache_dir=cache_dir)


def test_a_hub_id_that_is_not_here_is_refused_offline(cache_dir: Path) -> None:
    with pytest.raises(BackboneNotFound, match="google/t5-of-no-such-size"):
        load("google/t5-of-no-such-size", cache_dir=cache_dir, offline=True)


@pytest.mark.parametrize("device", ["quantum", "meta"])
def test_a_device_that_cannot_run_it_is_refused(tiny_t5: Path, cache_dir: Path, device: str) -> None:
    with pytest.raises(DeviceUnavailable, match=device):
        load(str(tiny_t5), cache_dir=cache_dir, device=device)


def test_a_hub_snapshot_loads_offline_with_its_commit_as_revision(
    tiny_t5: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny-t5"
    shutil.copytree(tiny_t5, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = load("somebody/tiny-t5", cache_dir=cache_dir, offline=True)
    assert backbone.identity.revision == commit


def test_every_tensor_is_frozen(tiny: Backbone) -> None:
    tensors = tiny.weights.tensors()
    assert len(tensors) == 6 + 2 * 5 + 3 * 10
    assert not any(tensor.requires_grad for tensor in tensors.values())
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_the_config_in_the_cache_is_what_transformers_writes_for_flan_t5_small(cache_dir: Path) -> None:
    prepare(cache_dir, lambda line: None)
    config = json.loads((cache_dir / "embedded-0.2.0" / "config.json").read_text())
    assert (config["d_model"], config["num_heads"], config["d_kv"], config["feed_forward_proj"]) == (
        512,
        6,
        64,
        "gated-gelu",
    )


@pytest.mark.parametrize("gated", [True, False])
def test_a_folder_read_directly_gives_the_tensors_that_transformers_gives(
    tmp_path: Path, cache_dir: Path, gated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_t5(tmp_path / "t5", gated=gated)
    direct = load(str(folder), cache_dir=cache_dir)
    monkeypatch.setattr("backbone.loading._PLAIN_TOKENIZERS", ())
    other = load(str(folder), cache_dir=cache_dir)
    assert direct.architecture == other.architecture
    assert direct.identity == other.identity
    tensors, expected = direct.weights.tensors(), other.weights.tensors()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    text = ["a gripping film </s> and a flat one"]
    assert direct.tokenizer.tokenize(text, max_tokens=64, truncation="error") == other.tokenizer.tokenize(
        text, max_tokens=64, truncation="error"
    )


@pytest.mark.slow
def test_a_backbone_in_a_folder_loads_without_the_code_of_transformers(tiny_t5: Path, cache_dir: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backbone import load\n"
        "load(sys.argv[1], cache_dir=Path(sys.argv[2]))\n"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_t5), str(cache_dir)], check=True, timeout=120)


@pytest.mark.parametrize("projection", ["relu", "gelu_new", "gated-gelu", "gated-relu", "gated-gelu_new"])
def test_every_projection_that_the_forward_computes_loads_as_transformers_reads_it(
    tmp_path: Path, cache_dir: Path, projection: str
) -> None:
    folder = make_t5(tmp_path, gated=projection.startswith("gated"), feed_forward_proj=projection)
    expected = T5Config.from_pretrained(folder)
    architecture = load(str(folder), cache_dir=cache_dir).architecture
    assert (architecture.activation, architecture.gated) == (expected.dense_act_fn, expected.is_gated_act)


def test_a_dimension_that_a_config_leaves_out_has_the_default_of_transformers(tmp_path: Path, cache_dir: Path) -> None:
    folder = make_t5(tmp_path, gated=True, d_kv=64)
    config = json.loads((folder / "config.json").read_text())
    del config["d_kv"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load(str(folder), cache_dir=cache_dir).architecture.head_dim == T5Config().d_kv == 64


def test_a_stated_revision_is_refused_where_it_would_be_ignored(tiny_t5: Path, cache_dir: Path) -> None:
    for source in (str(tiny_t5), "embedded"):
        with pytest.raises(BackboneNotFound, match=r"'v2' of .*leave it out"):
            load(source, revision="v2", cache_dir=cache_dir)
    assert load(str(tiny_t5), revision="local", cache_dir=cache_dir).identity.revision == "local"
