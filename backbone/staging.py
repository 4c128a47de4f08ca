"""Staging of index tensors: from the host to the device without a wait.

A copy from ordinary memory to a CUDA device makes the host wait until it is done. From pinned memory it does not, so
that a forward can be queued as a whole. PyTorch keeps the pinned memory until the copy has finished, and reuses it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = Sequence[int] | NDArray[np.int64]


def staged(indices: Indices, device: torch.device | None) -> Tensor:
    """Return an int64 tensor [len(indices)] on a device; on CUDA, work that is queued after it sees the copy."""
    host = torch.from_numpy(np.asarray(indices, dtype=np.int64))
    if device is None or device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


def staged_together(arrays: Sequence[Indices], device: torch.device | None) -> list[Tensor]:
    """Return one int64 tensor per array, as views of one buffer that is copied at once."""
    together = np.concatenate([np.asarray(indices, dtype=np.int64) for indices in arrays])
    return list(torch.split(staged(together, device), [len(indices) for indices in arrays]))
