"""The pulse: a tiny forward of the model's own when no caller's has succeeded for a while. On the model thread.

Readiness rests on it: an idle server knows that its model works, and one whose callers' rows all fail can tell whether
the model is to blame.
"""

import time
from collections.abc import Callable

import structlog
import torch

from backbone import Backbone, PackedRow, pack
from service.engine.self_test import Shape, SyntheticRow, synthetic_rows

_log = structlog.get_logger("service")
_SHAPE = Shape(num_virtual_tokens=1, num_text_tokens=2, label_tokens=(1, 1))


class ProbePreempted(Exception):
    """Somebody came: their forward will tell as much."""


class Heartbeat:
    """When a forward last gave scores, and when to run one.

    Args:
        after_s: without success for so long, a tiny forward is due; and again as often
    """

    def __init__(self, backbone: Backbone, *, after_s: float) -> None:
        self._backbone, self._after_s = backbone, after_s
        self._row: SyntheticRow | None = None
        self._tried_at = float("-inf")
        self._failing = False
        self.succeeded_at: float | None = None
        """On `time.monotonic`'s clock; may be read in any thread."""

    def succeeded(self) -> None:
        """A forward gave scores just now."""
        self.succeeded_at = time.monotonic()

    def due_in_s(self) -> float | None:
        """Seconds until a forward of its own is due, 0 where it is; None for never."""
        if self._after_s == float("inf"):
            return None
        last = max(self._tried_at, self.succeeded_at or float("-inf"))
        return max(0.0, last + self._after_s - time.monotonic())

    def beat(self, *, give_way: Callable[[], bool]) -> None:
        """Run one row of few tokens, given up between two layers as soon as `give_way` says so."""

        def pause() -> None:
            if give_way():
                raise ProbePreempted

        try:
            sound = self._run(pause)
        except ProbePreempted:
            return
        except torch.AcceleratorError:
            raise  # the device is lost to this process
        except Exception:  # noqa: BLE001 - whatever a forward raises, the next one may succeed
            sound = False
            if not self._failing:
                _log.exception("model_check_failed")
        self._tried_at, self._failing = time.monotonic(), not sound
        if sound:
            self.succeeded()

    def _run(self, pause: Callable[[], None]) -> bool:
        """Whether the scores are numbers."""
        if self._row is None:
            (self._row,) = synthetic_rows(self._backbone, [_SHAPE])
        row, device = self._row, self._backbone.device
        assert row.adapter.prompt is not None  # never in the bank
        with torch.inference_mode():
            packed = pack([PackedRow(range(row.adapter.num_virtual_tokens), row.token_ids)], device=device)
            encoded = self._backbone.encode(packed, torch.from_numpy(row.adapter.prompt).to(device), pause=pause)
            return bool(torch.isfinite(self._backbone.score(encoded, [row.adapter.trie])).all())
