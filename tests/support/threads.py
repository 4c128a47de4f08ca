"""The number of threads that torch computes on."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Compute on a number of threads; the setting is restored at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_one_thread() -> AbstractContextManager[None]:
    """Compute on one thread, the quickest for a model as small as ours."""
    return on_threads(1)
