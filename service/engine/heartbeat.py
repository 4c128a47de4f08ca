"""Heartbeat of the model: a small probe when no forward has succeeded for a while. Belongs to the model thread.

Readiness depends on it: an idle server knows that its model works, and a server whose callers' rows all fail learns
whether the model is at fault.
"""

import time
from collections.abc import Callable

import structlog
import torch

from backbone import Backbone, LabelTrie, PackedRow, pack
from backbone.pieces import Pause
from service.engine.self_test import Shape, synthetic_rows
from service.engine.types import Row

_log = structlog.get_logger("service")
_SHAPE = Shape(num_virtual_tokens=1, num_text_tokens=2, label_tokens=(1, 1))


class ProbePreempted(Exception):
    """A row arrived, and its forward is as good a sign of life as the probe."""


class Heartbeat:
    """When a forward last succeeded, and when the next probe is due.

    Args:
        interval_s: time without success after which a probe is due, and between probes
    """

    def __init__(self, backbone: Backbone, *, interval_s: float) -> None:
        self._backbone, self._interval_s = backbone, interval_s
        self._row: Row | None = None
        self._probed_at = float("-inf")
        self._failing = False
        self.succeeded_at: float | None = None
        """On the clock of `time.monotonic`; may be read from any thread."""

    def succeeded(self) -> None:
        """Record a forward that produced scores just now."""
        self.succeeded_at = time.monotonic()

    def due_in_s(self) -> float | None:
        """Return the seconds until the next probe is due (0 if overdue, None if disabled)."""
        if self._interval_s == float("inf"):
            return None
        last = max(self._probed_at, self.succeeded_at or float("-inf"))
        return max(0.0, last + self._interval_s - time.monotonic())

    def probe(self, *, preempted: Callable[[], bool]) -> None:
        """Run one short row; give it up between two pieces as soon as `preempted` returns true."""

        def pause(_: float) -> None:
            if preempted():
                raise ProbePreempted

        try:
            finite = self._run(pause)
        except ProbePreempted:
            return
        except torch.AcceleratorError:
            raise  # the process has lost the device
        except Exception:  # noqa: BLE001 - whatever a forward raises, the next one may succeed
            finite = False
            if not self._failing:
                _log.exception("model_check_failed")
        self._probed_at, self._failing = time.monotonic(), not finite
        if finite:
            self.succeeded()

    def _run(self, pause: Pause) -> bool:
        """Run the probe's forward and return whether its scores are finite."""
        if self._row is None:
            (self._row,) = synthetic_rows(self._backbone, [_SHAPE])
        row, device = self._row, self._backbone.device
        assert row.adapter.rows is not None, "the probe's prompt is never in the table"
        assert isinstance(row.adapter.readout, LabelTrie)
        with torch.inference_mode():
            packed = pack([PackedRow(range(row.adapter.num_virtual_tokens), row.token_ids)], device=device)
            encoded = self._backbone.encode(packed, torch.from_numpy(row.adapter.rows).to(device), pause=pause)
            return bool(torch.isfinite(self._backbone.score(encoded, [row.adapter.readout])).all())
