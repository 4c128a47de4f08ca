"""Mutated uploads: one to three mutations of a valid adapter's upload, determined by a seed and a number."""

from contextlib import suppress
from dataclasses import dataclass
from random import Random

import numpy as np

from adapters import PromptAdapter
from adapters.files import to_files
from adapters.readout import ReadoutKind
from verification.upload_fuzz.manifests import JSON_MUTATIONS, TASK_MUTATIONS
from verification.upload_fuzz.message import join, message_of, request_of
from verification.upload_fuzz.readouts import READOUT_MUTATIONS, with_readout
from verification.upload_fuzz.weights import WEIGHT_MUTATIONS, FileMutation
from verification.upload_fuzz.wire import PART_MUTATIONS, WIRE_MUTATIONS, PartMutation

_SHARES = {"weights": 25, "readout": 12, "json": 20, "task": 18, "parts": 14, "wire": 11}
"""Share of each family of mutations, in percent."""


@dataclass(frozen=True, slots=True)
class Mutated:
    """One upload as bytes to send."""

    number: int
    request: bytes
    mutations: tuple[str, ...]
    is_http: bool
    """Whether the request is complete."""


def mutated(base: PromptAdapter, number: int, *, seed: int, task: str) -> Mutated:
    """Return the upload with this number to a task, the same one each time."""
    draw = Random(f"{seed} {number}")
    files = to_files(_another(base, draw.getrandbits(32)), card="# A card\n" if draw.random() < 0.2 else "")
    chosen = _choose(draw)
    for mutate in chosen[0]:
        with suppress(KeyError, IndexError):  # the file to change was removed
            mutate(draw, files)
    message = message_of(files)
    for change in chosen[1]:
        with suppress(IndexError):  # no part or header remains to change
            change(draw, message)
    join(message)
    for change in chosen[2]:
        change(draw, message)
    names = tuple(mutation.__name__ for family in chosen for mutation in family)
    return Mutated(number, request_of(message, f"/tasks/{task}/versions".encode()), names, message.is_http)


def _another(base: PromptAdapter, seed: int) -> PromptAdapter:
    """Make a valid adapter that differs from `base` and from all others."""
    scale = max(float(base.prompt.std()), 1e-3)
    prompt = np.random.default_rng(seed).normal(0, scale, base.prompt.shape).astype(np.float32)
    provenance = base.manifest.provenance.model_copy(update={"seed": seed})
    adapter = PromptAdapter(prompt, base.manifest.model_copy(update={"provenance": provenance}))
    kinds: tuple[ReadoutKind, ...] = ("words", "soft", "pooled", "joint")
    kind = kinds[seed % len(kinds)]
    return adapter if kind == "words" else with_readout(adapter, kind, seed)


def _choose(draw: Random) -> tuple[list[FileMutation], list[PartMutation], list[PartMutation]]:
    """Order mutations as they can apply: files, parts, message."""
    files: list[FileMutation] = []
    parts: list[PartMutation] = []
    wire: list[PartMutation] = []
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3))):
        match draw.choices(tuple(_SHARES), weights=tuple(_SHARES.values()))[0]:
            case "weights":
                files.append(draw.choice(WEIGHT_MUTATIONS))
            case "readout":
                files.append(draw.choice(READOUT_MUTATIONS))
            case "json":
                files.append(draw.choice(JSON_MUTATIONS))
            case "task":
                files.append(draw.choice(TASK_MUTATIONS))
            case "parts":
                parts.append(draw.choice(PART_MUTATIONS))
            case _:
                wire.append(draw.choice(WIRE_MUTATIONS))
    return files, parts, wire
