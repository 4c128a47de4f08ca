"""Tensors in one file that processes map instead of copying: their pages are in memory once for all of them.

Knows nothing of what the tensors mean. Who writes names the file after its content, so that a file that is there is the
right one.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write the file, once: of several processes one does, the others wait for it and leave it as it is.

    A tensor that is there under two names (a tied head) is written once.

    Raises:
        OSError: the folder cannot be written
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        if path.exists():
            return
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            _write(tensors, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def open_shared(path: Path) -> dict[str, Tensor]:
    """The tensors, in pages that every process that opens the file shares.

    They must not be written to: a written page would be this process's own, and take memory again.

    Raises:
        OSError, safetensors.SafetensorError: no such file, or a damaged one
    """
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        same_as = file.metadata() or {}
    return found | {name: found[written] for name, written in same_as.items()}


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    written: dict[str, Tensor] = {}
    same_as: dict[str, str] = {}
    first_name: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if identity in first_name:
            same_as[name] = first_name[identity]
        else:
            first_name[identity] = name
            written[name] = tensor.detach().to("cpu", copy=True).contiguous()
    save_file(written, path, metadata=same_as)
