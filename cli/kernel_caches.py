"""How many shapes' kernels PyTorch and oneDNN keep. Their default, 1,024, is 240 MB of a server whose texts vary."""

import os

_ENTRIES = "128"


def bound_kernel_caches() -> None:
    """Set both bounds for this process and those it starts, where nobody has; to be called before torch is imported.

    A forward uses about thirteen shapes, again and again over its layers: 128 hold those of ten lengths. On batches of
    mixed lengths that cost nothing measurable, and 32 did (docs/decisions.md).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _ENTRIES)
