"""The live display of a training run: a bar with loss, best metric, rows/s and time left, a line an epoch."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from training.events import EpochEvent, StepEvent

_SMOOTHING_STEPS = 20


class TrainingDisplay:
    """Shows steps and epochs of one run on a terminal; without one, a line an epoch is all that is printed."""

    def __init__(self, console: Console, metric: str) -> None:
        self._console, self._metric = console, metric
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("best {task.fields[best]:.3f}"),
            TextColumn("{task.fields[rate]:.0f} rows/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._bar = self._progress.add_task("train", total=None, epoch=1, loss=float("nan"), best=0.0, rate=0.0)
        self._recent: deque[tuple[float, int]] = deque(maxlen=_SMOOTHING_STEPS)
        self._losses: deque[float] = deque(maxlen=_SMOOTHING_STEPS)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the bar while the run goes on."""
        with self._progress:
            yield

    def step(self, event: "StepEvent") -> None:
        """Move the bar."""
        self._recent.append((event.elapsed_s, event.rows))
        self._losses.append(event.loss)
        self._progress.update(
            self._bar,
            total=event.num_steps,
            completed=event.step,
            epoch=event.epoch,
            loss=sum(self._losses) / len(self._losses),
            rate=self._rate(),
        )

    def epoch(self, event: "EpochEvent") -> None:
        """Print an epoch's line."""
        value = event.metrics.figures()[self._metric]
        if event.is_best:
            self._progress.update(self._bar, best=value)
        self._recent.clear()
        name = "untrained" if event.train_loss is None else f"epoch {event.epoch:3d}"
        loss = "" if event.train_loss is None else f"  train loss {event.train_loss:.4f}"
        marks = ("  best" if event.is_best else "") + (
            "  COLLAPSED: one answer for every row" * event.metrics.collapsed
        )
        self._console.print(
            f"{name:9s}{loss}  selection {self._metric} {value:.4f}  loss {event.metrics.loss:.4f}{marks}",
            markup=False,
        )

    def _rate(self) -> float:
        (first, skipped), (last, _) = self._recent[0], self._recent[-1]
        rows = sum(count for _, count in self._recent) - skipped
        return rows / (last - first) if last > first else 0.0
