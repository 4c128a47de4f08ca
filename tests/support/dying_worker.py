"""Sweep workers whose process dies in the middle of a stack."""

import os
from pathlib import Path

from training.sweeping.on_ray import Answer, StackWorker


def dying_in_a_stack(dying: Path) -> type[StackWorker]:
    """Return workers of which one dies: the first that gets an answer once the file is there, which it takes away."""

    class DyingWorker(StackWorker):
        def answer(self, should_prune: bool) -> Answer:
            if dying.exists():
                dying.unlink()
                os._exit(1)
            return super().answer(should_prune)

    return DyingWorker
