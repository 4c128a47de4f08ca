"""How alike the superposition weights p′ of different tasks are, prompt token by prompt token (Figure 2d)."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from training.paper.results import CellResult, Similarity, run_path
from training.report.figures import cosine_similarity
from training.runs.layout import METHOD

WEIGHTS = "weights"


def similarities(folder: Path, cells: Iterable[CellResult]) -> tuple[Similarity, ...]:
    """For each variant and seed with weights on two tasks at least. One seed samples the same tokens on every task."""
    found = []
    ordered = sorted(cells, key=lambda cell: (cell.variant, cell.seed, cell.task))
    for (variant, seed), group in groupby(ordered, key=lambda cell: (cell.variant, cell.seed)):
        weights = {cell.task: _weights(folder / run_path(task=cell.task, variant=variant, seed=seed)) for cell in group}
        known = {task: value for task, value in weights.items() if value is not None}
        if len(known) > 1:
            found.append(_similarity(variant, seed, known))
    return tuple(found)


def _similarity(variant: str, seed: int, weights: dict[str, NDArray[np.float32]]) -> Similarity:
    by_token = np.stack(list(weights.values()), axis=1)  # [P, tasks, m]
    matrices = tuple(
        tuple(tuple(round(float(value), 3) for value in row) for row in cosine_similarity(token)) for token in by_token
    )
    return Similarity(variant=variant, seed=seed, tasks=tuple(weights), matrices=matrices)


def _weights(path: Path) -> NDArray[np.float32] | None:
    """p′ [P, m] of a run; None where its method has none."""
    file = path / METHOD
    if not file.exists():
        return None
    weights: NDArray[np.float32] | None = safetensors.numpy.load_file(file).get(WEIGHTS)
    return weights
