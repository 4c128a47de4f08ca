"""A backbone's fingerprint: which model a prompt was trained for, told from its content and not its name."""

import hashlib
import json
from dataclasses import asdict

import torch
from torch import Tensor

from backbone.architecture import Architecture


def fingerprint(embedding: Tensor, architecture: Architecture) -> str:
    """sha256 over the embedding table [V, H] as little-endian float32 and over the architecture's numbers.

    Returns:
        `sha256:` and 64 hexadecimal digits; the same on every device and for every copy of the same weights.
    """
    digest = hashlib.sha256(json.dumps(asdict(architecture), sort_keys=True).encode())
    table = embedding.detach().to("cpu", torch.float32).contiguous()
    digest.update(table.numpy().astype("<f4", copy=False).data)
    return f"sha256:{digest.hexdigest()}"
