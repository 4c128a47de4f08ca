"""Mutations of an adapter's learned readout. Without one they do nothing."""

import json
from random import Random

import numpy as np

from adapters.adapter import PromptAdapter
from adapters.files import MANIFEST, READOUT
from adapters.readout import BIAS, VECTORS, LearnedReadout, ReadoutKind, num_states, schema_version_of
from adapters.tensor_files import read_metadata, read_tensors, write_tensors
from verification.upload_fuzz.weights import FileMutation, Files

_AXES = {VECTORS: ("labels", "width"), BIAS: ("labels",)}
_VALUES = (np.nan, np.inf, -np.inf, 3.4e38, 1.1e4, 9e3, 1e-42)


def with_readout(adapter: PromptAdapter, kind: ReadoutKind, seed: int) -> PromptAdapter:
    """Return the adapter with a valid learned readout of random numbers."""
    random = np.random.default_rng(seed)
    num_labels = len(adapter.spec.labels)
    readout = LearnedReadout(
        random.normal(0, adapter.width**-0.5, (num_labels, num_states(kind) * adapter.width)).astype(np.float32),
        random.normal(0, 1, num_labels).astype(np.float32),
    )
    manifest = adapter.manifest.model_copy(update={"schema_version": schema_version_of(kind), "readout": kind})
    return PromptAdapter(adapter.prompt, manifest, readout)


def flip_readout_bits(draw: Random, files: Files) -> None:
    data = bytearray(files[READOUT])
    for _ in range(draw.randint(1, 16)):
        data[draw.randrange(draw.choice((8, 128, len(data))))] ^= 1 << draw.randrange(8)
    files[READOUT] = bytes(data)


def cut_readout(draw: Random, files: Files) -> None:
    files[READOUT] = files[READOUT][: draw.randrange(len(files[READOUT]))]


def empty_readout(draw: Random, files: Files) -> None:
    """Remove the file, or its content."""
    if draw.random() < 0.5:
        del files[READOUT]
    else:
        files[READOUT] = b""


def drop_prompt_of_readout(draw: Random, files: Files) -> None:
    for name in draw.sample(sorted(files.keys() - {READOUT, MANIFEST}), draw.choice((1, 2))):
        del files[name]


def reshape_readout(draw: Random, files: Files) -> None:
    """Change the number of labels or the width of one tensor or of both."""
    tensors, labels = _opened(files)
    vectors, bias = tensors[VECTORS], tensors[BIAS]
    more = draw.choice((-1, 1, 7))
    changed = draw.choice(("vectors", "bias", "both", "width", "flat"))
    if changed in {"vectors", "both"}:
        vectors = np.resize(vectors, (max(0, len(vectors) + more), vectors.shape[1]))
    if changed in {"bias", "both"}:
        bias = np.resize(bias, max(0, len(bias) + more))
    if changed == "width":
        vectors = np.resize(vectors, (len(vectors), max(0, vectors.shape[1] + more)))
    if changed == "flat":
        vectors = vectors.ravel()
    files[READOUT] = write_tensors({VECTORS: vectors, BIAS: bias}, metadata=labels)


def retype_readout(draw: Random, files: Files) -> None:
    tensors, labels = _opened(files)
    name, dtype = draw.choice(list(tensors)), draw.choice((np.float16, np.float64, np.int32))
    files[READOUT] = write_tensors(tensors | {name: tensors[name].astype(dtype)}, metadata=labels)


def spoil_readout_values(draw: Random, files: Files) -> None:
    tensors, labels = _opened(files)
    name = draw.choice(list(tensors))
    array = np.array(tensors[name])
    array.flat[draw.randrange(array.size)] = draw.choice(_VALUES)
    files[READOUT] = write_tensors(tensors | {name: array}, metadata=labels)


def reorder_labels_of_readout(draw: Random, files: Files) -> None:
    """Change the labels in the header, which must be the manifest's."""
    tensors, labels = _opened(files)
    names = json.loads(labels["labels"])
    other = draw.choice((names[::-1], names[:-1], [*names, "more"], [], None, "x" * 5_000))
    files[READOUT] = write_tensors(tensors, metadata=draw.choice(({"labels": json.dumps(other)}, {}, None)))


def add_metadata_to_readout(draw: Random, files: Files) -> None:
    """Add names to the header, up to more than it may have."""
    tensors, labels = _opened(files)
    added = {f"{number:x}": "" for number in range(draw.choice((1, 100, 150_000)))}
    files[READOUT] = write_tensors(tensors, metadata=labels | added)


def rename_readout_tensors(draw: Random, files: Files) -> None:
    tensors, labels = _opened(files)
    name = draw.choice(list(tensors))
    tensors[draw.choice(("", "label_vector", "prompt_embeddings", "x" * 3_000))] = tensors[name]
    if draw.random() < 0.5:
        del tensors[name]
    files[READOUT] = write_tensors(tensors, metadata=labels)


def contradict_readout(draw: Random, files: Files) -> None:
    """Name another readout or version in the manifest."""
    manifest = json.loads(files[MANIFEST])
    values = {
        "schema_version": (0, 1, 2, 3, 4, 99, "2", 2.0, True, None),
        "readout": ("words", "soft", "pooled", "joint", "mean", None, 1),
    }
    key = draw.choice(list(values))
    manifest[key] = draw.choice(values[key])
    files[MANIFEST] = json.dumps(manifest).encode()


def _opened(files: Files) -> tuple[dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"], dict[str, str]]:
    data = files[READOUT]
    try:
        return read_tensors(data, READOUT, _AXES), read_metadata(data, READOUT, ["labels"])
    except Exception as exc:  # an earlier mutation broke it
        raise KeyError(READOUT) from exc


READOUT_MUTATIONS: tuple[FileMutation, ...] = (
    flip_readout_bits,
    cut_readout,
    empty_readout,
    drop_prompt_of_readout,
    reshape_readout,
    retype_readout,
    spoil_readout_values,
    reorder_labels_of_readout,
    add_metadata_to_readout,
    rename_readout_tensors,
    contradict_readout,
)
