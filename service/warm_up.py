"""Warming up: batches of growing size before the first caller's, so that allocators and kernels are ready."""

import time
from itertools import chain

from backbone import Backbone
from service.containment import Containment
from service.synthetic import Shape, synthetic_rows

_ROW = Shape(num_virtual_tokens=10, num_text_tokens=54, label_tokens=(1, 1, 2))
_ROW_TOKENS = _ROW.num_virtual_tokens + _ROW.num_text_tokens
_LONG_STEP_S = 0.25


def warm_up(containment: Containment, backbone: Backbone, *, max_batch_tokens: int) -> None:
    """Run batches of 1, 4, 16 … rows up to the largest that the scheduler makes; stops early where they take long.

    A size that does not fit in memory is remembered by the containment, and is no error.
    """
    (row,) = synthetic_rows(backbone, [_ROW])
    largest = max(1, max_batch_tokens // _ROW_TOKENS)
    powers = (4**exponent for exponent in range(largest.bit_length() // 2 + 1))
    for num_rows in chain((size for size in powers if size < largest), (largest,)):
        started = time.monotonic()
        for _ in containment.run([row] * num_rows):
            pass
        if time.monotonic() - started > _LONG_STEP_S:
            return
