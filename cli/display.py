"""The live display of training: a bar a prompt with loss, best metric, rows/s and time left, a line an epoch."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from training.events import EvalEvent, StepEvent

_SMOOTHING_STEPS = 20


class TrainingDisplay:
    """Shows the prompts of a stack on a terminal; without one, a line an epoch is all that is printed."""

    def __init__(self, console: Console, metric: str) -> None:
        self._console, self._metric = console, metric
        self._progress = Progress(
            TextColumn("{task.description}"),
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

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the bars while training goes on."""
        with self._progress:
            yield

    def slot(self, name: str = "") -> "SlotDisplay":
        """The bar and lines of one prompt; a name tells it from others."""
        return SlotDisplay(self._console, self._progress, self._metric, name)


class SlotDisplay:
    """Follows one prompt."""

    def __init__(self, console: Console, progress: Progress, metric: str, name: str) -> None:
        self._console, self._progress, self._metric, self._name = console, progress, metric, name
        self._bar = progress.add_task(name, total=None, epoch=1, loss=float("nan"), best=0.0, rate=0.0)
        self._recent: deque[tuple[float, int]] = deque(maxlen=_SMOOTHING_STEPS)
        self._losses: deque[float] = deque(maxlen=_SMOOTHING_STEPS)

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

    def evaluation(self, event: "EvalEvent") -> None:
        """Print an evaluation's line."""
        value = event.metrics.figures()[self._metric]
        if event.is_best:
            self._progress.update(self._bar, best=value)
        self._recent.clear()
        name = "untrained" if event.train_loss is None else f"epoch {event.epoch:3d}"
        whose = f"{self._name}  " if self._name else ""
        loss = "" if event.train_loss is None else f"  train loss {event.train_loss:.4f}"
        marks = ("  best" if event.is_best else "") + (
            "  COLLAPSED: one answer for every row" * event.metrics.collapsed
        )
        self._console.print(
            f"{whose}{name:9s}{loss}  selection {self._metric} {value:.4f}  loss {event.metrics.loss:.4f}{marks}",
            markup=False,
        )

    def _rate(self) -> float:
        (first, skipped), (last, _) = self._recent[0], self._recent[-1]
        rows = sum(count for _, count in self._recent) - skipped
        return rows / (last - first) if last > first else 0.0
