"""Loading of a frozen `Backbone` from `embedded`, a folder or a Hugging Face id, and its fingerprint."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from backbone import embedded
from backbone.architecture import Architecture
from backbone.backbone import Backbone, BackboneId
from backbone.encoder import Attention
from backbone.errors import BackboneNotFound, UnsupportedBackbone
from backbone.precision import Precision, check_device, device_named
from backbone.sharing import shared
from backbone.text import TextTokenizer
from backbone.weights import tensor_shapes, weights_of

EMBEDDED = "embedded"
LOCAL = "local"
"""The revision of every directory."""
_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes that are their `tokenizer.json` and nothing more."""

_DIMENSIONS = {"d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size"}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_EXPECTED = (
    f"expected {EMBEDDED!r}, a directory in the format of transformers, or a model id such as google/flan-t5-small"
)

_Checkpoint = tuple[dict[str, Any], dict[str, Tensor], str]
"""The content of `config.json`, the tensors by name, the content of `tokenizer.json`."""


def load(
    source: str,
    *,
    cache_dir: Path,
    revision: str | None = None,
    offline: bool = False,
    device: str = "cpu",
    precision: Precision = "fp32",
    attention: Attention = "sdpa",
    share_weights: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Backbone:
    """Load a T5, frozen.

    Args:
        source: `embedded`, a directory in `transformers`' format, or a Hugging Face id (`google/flan-t5-small`).
            `huggingface_hub` takes the token of a private repository from `HF_TOKEN` or a login.
        cache_dir: folder of the embedded backbone's converted weights
        revision: a Hub branch, tag or commit
        offline: use only files on this machine
        device: a `torch` device, `cpu` or `cuda`
        precision: `fp32`; `int8` on a CPU; `bf16` on CUDA and on CPUs that multiply in it. fp16 is not offered, since
            T5's activations overflow it.
        attention: `flex` computes the encoder's attention by one kernel for all rows of a batch, where no gradients are
            needed; it is untested on GPU, where heads must be 16 wide or more, and on a CPU it is only fit for
            comparison
        share_weights: map the weights from a file in `cache_dir`, so that processes on a CPU share their memory
        say: called with each progress message

    Raises:
        BackboneNotFound: the source does not exist or cannot be reached
        UnsupportedBackbone: the source is not a T5
        BackboneCacheError: `cache_dir` cannot be written
        DeviceUnavailable: the machine lacks the device, or the device does not support the precision
    """
    check_device(device_named(device), precision)
    _check_revision(source, revision)
    folder = str(embedded.prepare(cache_dir, say)) if source == EMBEDDED else source
    config, tensors, tokenizer = _from_folder(Path(folder)) or _from_transformers(folder, revision, offline)
    architecture = Architecture.of(config)
    shapes = tensor_shapes(architecture, untied_head="lm_head.weight" in tensors)
    wrong = sorted(name for name, shape in shapes.items() if name not in tensors or tensors[name].shape != shape)
    if wrong:
        raise UnsupportedBackbone(f"{source!r} lacks tensors of a T5 or has them in a wrong shape: {wrong[:5]}")
    # copied: tensors that are mapped from a file change when the file does
    on_device = {name: tensor.to(device, torch.float32, copy=True) for name, tensor in tensors.items()}
    weights = weights_of(on_device, architecture)
    if share_weights and weights.embedding.device.type == "cpu":
        weights = shared(weights, cache_dir / "shared")
    identity = BackboneId(
        id=source,
        revision=embedded.REVISION if source == EMBEDDED else _commit(source, revision),
        fingerprint=fingerprint(weights.embedding, architecture),
    )
    try:
        text_tokenizer = TextTokenizer(tokenizer, eos_id=architecture.eos_id)
    except (KeyError, ValueError) as exc:
        raise BackboneNotFound(f"cannot load {source!r}: its tokenizer is invalid: {_first_line(exc)}") from exc
    return Backbone(identity, architecture, weights, text_tokenizer, precision=precision, attention=attention)


def fingerprint(embedding: Tensor, architecture: Architecture) -> str:
    """Return the hash that identifies the model that a prompt was trained for, by content and not by name.

    sha256 over the architecture's numbers and the embedding table [V, H] as little-endian float32.

    Returns:
        `sha256:` and 64 hexadecimal digits; the same on every device and for every copy of the same weights.
    """
    digest = hashlib.sha256(json.dumps(asdict(architecture), sort_keys=True).encode())
    table = embedding.detach().to("cpu", torch.float32).contiguous()
    digest.update(table.numpy().astype("<f4", copy=False).data)
    return f"sha256:{digest.hexdigest()}"


def _check_revision(source: str, revision: str | None) -> None:
    """Refuse a revision that would be ignored, since the source has only one."""
    if source == EMBEDDED or Path(source).is_dir():
        only = embedded.REVISION if source == EMBEDDED else LOCAL
        if revision not in (None, only):
            raise BackboneNotFound(
                f"revision {revision!r} of {source!r}: only models of the Hub have revisions; leave it out, or give "
                "the model's id on the Hub"
            )


def _from_folder(folder: Path) -> _Checkpoint | None:
    """Read a directory whose files need no code of `transformers`, whose import takes 3 s of processor time.

    Returns None for any other source: a Hub id, sharded or pickled weights, a tokenizer with a class of its own.
    """
    files = [folder / name for name in ("config.json", "tokenizer_config.json", "model.safetensors", "tokenizer.json")]
    if not all(file.is_file() for file in files):
        return None
    try:
        config, tokenizer_config = (json.loads(file.read_bytes()) for file in files[:2])
        is_plain = tokenizer_config.get("tokenizer_class") in _PLAIN_TOKENIZERS
        # a dimension that a config leaves out has a default in `transformers`
        if config.get("model_type") != "t5" or not is_plain or not config.keys() >= _DIMENSIONS:
            return None
        tensors = load_file(files[2])
        # `transformers` finds a table that was saved under another of its names
        return (config, tensors, files[3].read_text(encoding="utf-8")) if "shared.weight" in tensors else None
    except (OSError, ValueError, SafetensorError) as exc:
        raise BackboneNotFound(f"cannot load {str(folder)!r}: {_first_line(exc)}") from exc


def _from_transformers(source: str, revision: str | None, offline: bool) -> _Checkpoint:
    """Read any source that `transformers` can load."""
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise BackboneNotFound(f"cannot load {source!r}: the directory has no config.json; {_EXPECTED}")
    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise BackboneNotFound(f"cannot load {source!r}: no such directory; {_EXPECTED}")
    from transformers import AutoConfig, AutoTokenizer, T5Config, T5ForConditionalGeneration  # noqa: PLC0415
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    options = {"revision": revision, "local_files_only": offline}
    # `transformers` warns about tied heads although it follows the checkpoint
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if not isinstance(config, T5Config):
            raise UnsupportedBackbone(f"{source!r} is a {config.model_type!r} model, expected 't5'")
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
        model, report = T5ForConditionalGeneration.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, SafetensorError) as exc:
        where = "" if Path(source).exists() else "it is not a directory here, and as a model id of the Hub: "
        raise BackboneNotFound(f"cannot load {source!r}: {where}{_first_line(exc)}; {_EXPECTED}") from exc
    if report["missing_keys"] or report["mismatched_keys"]:
        wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise UnsupportedBackbone(f"{source!r} lacks tensors of a T5 or has them in a wrong shape: {wrong[:5]}")
    embedding = model.shared.weight.data_ptr()
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name == "shared.weight" or tensor.data_ptr() != embedding
    }
    return config.to_dict(), tensors, tokenizer.backend_tokenizer.to_str()


def _commit(source: str, revision: str | None) -> str:
    """Return the Hub commit that was loaded, or `local` for a directory."""
    if Path(source).is_dir():
        return LOCAL
    config = huggingface_hub.try_to_load_from_cache(source, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else "unknown"


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]
