"""Running out of memory: how it is told from other failures, and how many tokens fit at once.

Belongs to the model thread.
"""

import math

import torch

_MARKS = (
    "DefaultCPUAllocator",  # PyTorch's CPU allocator has no error type of its own
    "CUDA error: out of memory",  # from outside PyTorch's caching allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
)
_GROWTH = 1 + 1 / 64


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a forward that raised this might have gone through with fewer rows."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _MARKS)


def release_cached_memory() -> None:
    """Give the blocks that PyTorch's CUDA allocator keeps back to the device; nothing where it was not used."""
    torch.cuda.empty_cache()


class FittingTokens:
    """How many packed tokens a batch may have, as far as failures have told.

    A failure halves its own size. Each batch that fits and is near the limit raises it by 1/64: it doubles in some
    45 such batches, so memory that was short for a while does not cost for ever.
    """

    def __init__(self) -> None:
        self.limit = math.inf

    def failed(self, num_tokens: int) -> None:
        """Note a batch that ran out of memory."""
        self.limit = min(self.limit, max(1, num_tokens // 2))

    def fitted(self, num_tokens: int) -> None:
        """Note a batch that did not."""
        if 2 * num_tokens > self.limit:
            self.limit *= _GROWTH
