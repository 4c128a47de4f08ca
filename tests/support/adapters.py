"""Adapters for a given backbone, a small one made by hand, and the ways to spoil its files."""

import dataclasses
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from adapters import BackboneRef, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.adapter import no_prompt
from adapters.files import CONFIG, MANIFEST, READOUT, TENSOR, WEIGHTS
from adapters.readout import BIAS, VECTORS, LearnedReadout, ReadoutKind, num_states, schema_version_of
from backbone import Backbone

WIDTH = 8
FINGERPRINT = "sha256:" + "0f" * 32
BACKBONE = BackboneRef(id="some/t5", revision="main", fingerprint=FINGERPRINT)
TASK = TaskSpec(template="sentence: {sentence}", labels={"negative": "bad", "positive": "good"})
SENTIMENT = TaskSpec(
    template="sentence: {sentence}", labels={"negative": "negative", "positive": "positive"}, max_tokens=64
)
TOPIC = TaskSpec(
    template="text: {text}",
    labels={"world": "world news", "sports": "sports", "business": "business", "science": "world science"},
    max_tokens=64,
)
TOPICS = TaskSpec(
    template="text: {text}",
    labels={"world": "world news", "sports": "sports", "business": "business"},
    kind="multi_label",
    max_tokens=64,
)
PAIR = TaskSpec(
    template="premise: {premise} hypothesis: {hypothesis}", labels={"yes": "yes", "no": "no"}, max_tokens=64
)

Files = dict[str, bytes]
Change = Callable[[Files], Files]


def a_prompt(num_virtual_tokens: int = 10, width: int = WIDTH) -> NDArray[np.float32]:
    numbers = np.arange(num_virtual_tokens * width, dtype=np.float32).reshape(num_virtual_tokens, width)
    return (numbers - np.float32(30)) / np.float32(7)


def an_adapter(prompt: NDArray[Any] | None = None, **changes: Any) -> PromptAdapter:
    values = {"task": TASK, "backbone": BACKBONE, "provenance": Provenance(method="superpos", seed=1), **changes}
    return PromptAdapter(a_prompt() if prompt is None else prompt, Manifest(**values))


def a_readout(num_labels: int = 2, width: int = WIDTH) -> LearnedReadout:
    return LearnedReadout(a_prompt(num_labels, width) / np.float32(3), a_prompt(1, num_labels)[0])


def a_learned_adapter(
    kind: ReadoutKind = "soft", *, prompt: NDArray[Any] | None = None, readout: LearnedReadout | None = None
) -> PromptAdapter:
    """A small adapter with a learned readout, without a prompt unless one is given."""
    manifest = an_adapter().manifest.model_copy(update={"schema_version": schema_version_of(kind), "readout": kind})
    readout = readout or a_readout(width=num_states(kind) * WIDTH)
    return PromptAdapter(no_prompt(WIDTH) if prompt is None else prompt, manifest, readout)


def make_adapter(
    backbone: Backbone,
    spec: TaskSpec = SENTIMENT,
    *,
    seed: int = 0,
    num_virtual_tokens: int = 10,
    readout: ReadoutKind = "words",
) -> PromptAdapter:
    """An adapter with random numbers in the backbone's scale."""
    random = np.random.default_rng(seed)
    scale = float(backbone.weights.embedding.std())
    prompt = random.normal(0, scale, (num_virtual_tokens, backbone.width)).astype(np.float32)
    manifest = Manifest(
        schema_version=schema_version_of(readout),
        readout=readout,
        task=spec,
        backbone=BackboneRef(**dataclasses.asdict(backbone.identity)),
        provenance=Provenance(method="random", seed=seed),
    )
    if readout == "words":
        return PromptAdapter(prompt, manifest)
    num_labels = len(spec.labels)
    shape = (num_labels, num_states(readout) * backbone.width)
    vectors = random.normal(0, backbone.width**-0.5, shape).astype(np.float32)
    bias = random.normal(0, 1, num_labels).astype(np.float32)
    return PromptAdapter(prompt, manifest, LearnedReadout(vectors, bias))


def edited(files: Files, name: str, edit: Callable[[dict[str, Any]], object]) -> Files:
    """The files with one of the JSON files changed in place."""
    value = json.loads(files[name])
    edit(value)
    return files | {name: json.dumps(value).encode()}


def config(**changes: object) -> Change:
    return lambda files: edited(files, CONFIG, lambda value: value.update(changes))


def manifest(*path: str, value: object) -> Change:
    """Sets one place of `superpos.json`."""

    def edit(root: dict[str, Any]) -> None:
        for key in path[:-1]:
            root = root[key]
        root[path[-1]] = value

    return lambda files: edited(files, MANIFEST, edit)


def without(name: str, key: str) -> Change:
    return lambda files: edited(files, name, lambda value: value.pop(key))


def file(name: str, data: bytes) -> Change:
    return lambda files: files | {name: data}


def tensors(**arrays: NDArray[Any]) -> Change:
    return file(WEIGHTS, safetensors.numpy.save(arrays))


def readout_tensors(metadata: dict[str, str] | None = None, **arrays: NDArray[Any]) -> Change:
    """Another readout file, with the labels of `TASK` in its header unless told otherwise."""
    readout = a_readout()
    values = {VECTORS: np.array(readout.label_vectors), BIAS: np.array(readout.label_bias), **arrays}
    labels = {"labels": json.dumps(TASK.label_names)} if metadata is None else metadata
    return file(READOUT, safetensors.numpy.save(values, metadata=labels))


def header_only(*shape: int, dtype: str = "F32", size: int = 0) -> Change:
    """A safetensors file with a header of our choice and zeros behind it."""
    header = json.dumps({TENSOR: {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}).encode()
    return file(WEIGHTS, struct.pack("<Q", len(header)) + header + bytes(size))


def saved_by_torch(*, legacy: bool) -> bytes:
    buffer = io.BytesIO()
    value = {TENSOR: torch.from_numpy(a_prompt())}
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_value(value: float) -> NDArray[np.float32]:
    prompt = a_prompt()
    prompt[3, 5] = value
    return prompt


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return b'{"schema_version": ' + (opening * depth + "1" + closing * depth).encode() + b"}"
