"""Training progress: a live table with one row per prompt, or one log line per evaluation."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from adapters.baselines import TITLES

if TYPE_CHECKING:
    from training.loop.events import EvalEvent, RestoreEvent, StepEvent
    from training.runs.executor import EndEvent, Event

_SMOOTHING_STEPS = 20
_RATE_S, _RATE_STEPS = 30.0, 10_000
"""Window of the overall rate: seconds, or steps if they are faster."""
INTERRUPTED = "training stopped; scoring the best epoch so far of each prompt (Ctrl-C again skips this; see --resume)"


class PromptRow:
    """Progress of one prompt, or of the fits of a head: one for each strength of regularisation."""

    def __init__(self, name: str, metric: str, method: str) -> None:
        self.name, self.metric, self.is_head = name, metric, method == "head"
        self.epoch = self.step = self.num_steps = 0
        self.value = self.best = float("nan")
        self._losses: deque[float] = deque(maxlen=_SMOOTHING_STEPS)
        self._ends: deque[float] = deque(maxlen=_SMOOTHING_STEPS)  # of steps, in seconds of training

    def stepped(self, event: "StepEvent") -> None:
        self.epoch, self.step, self.num_steps = event.epoch, event.step, event.num_steps
        self._losses.append(event.loss)
        self._ends.append(event.training_s)

    def evaluated(self, event: "EvalEvent") -> None:
        self.epoch, self.step = event.epoch, event.step
        self.value = event.metrics.score
        if event.is_best:
            self.best = self.value

    def restored(self, event: "RestoreEvent") -> None:
        for evaluation in event.evaluations:
            self.evaluated(evaluation)
        self.step = event.step

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to the last step, without evaluations; None before the second step."""
        ends = tuple(self._ends)  # a separate thread draws the table during training
        if len(ends) < 2:
            return None
        return (self.num_steps - self.step) * (ends[-1] - ends[0]) / (len(ends) - 1)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        losses = tuple(self._losses)
        loss = sum(losses) / len(losses) if losses else float("nan")
        left = "" if (left_s := self.left_s) is None else duration(left_s)
        steps = f"{self.step}/{self.num_steps or '?'}"
        epoch = "" if self.is_head else str(self.epoch)
        return (self.name, epoch, steps, f"{loss:.3f}", f"{self.value:.4f}", f"{self.best:.4f}", left)


class TrainingDisplay:
    """Shows the progress of all prompts of a command, in any process."""

    def __init__(self, console: Console, prompts: Sequence[tuple[str, str, str]], *, plain: bool) -> None:
        """Show prompts.

        Args:
            prompts: name, metric and method of each prompt
            plain: print one line per evaluation, without control characters; always so without a terminal
        """
        self._console = console
        self.rows = [PromptRow(*prompt) for prompt in prompts]
        self._plain = plain or not console.is_terminal
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_STEPS)  # when, rows
        self._num_ended = self._num_scored = 0
        self._was_interrupted = False
        self._notes: set[str] = set()
        self._caption: str | None = None

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table during training."""
        live = Live(
            get_renderable=self.table, console=self._console, transient=True, refresh_per_second=4, auto_refresh=True
        )
        with nullcontext() if self._plain else live:
            yield

    def watch(self, number: int, event: "Event") -> None:
        """Update the display with an event of a prompt."""
        from training.loop.events import EvalEvent, RestoreEvent, StepEvent
        from training.runs.executor import BaselineEvent, EndEvent, RowsEvent, ScoreEvent

        row = self.rows[number]
        if isinstance(event, StepEvent):
            row.stepped(event)
            self._seen.append((time.monotonic(), event.rows))
        elif isinstance(event, EvalEvent):
            row.evaluated(event)
            if self._plain:
                self._console.out(evaluation_line(row, event), highlight=False)
        elif isinstance(event, RowsEvent):
            for note in event.notes:
                if note not in self._notes:
                    self._notes.add(note)
                    self._console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        elif isinstance(event, EndEvent):
            self._ended(event)
        elif isinstance(event, ScoreEvent):
            self._scoring(row)
        elif isinstance(event, BaselineEvent):
            self._caption = _named(row, f"baseline: {TITLES[event.name]}")
            if self._plain:
                self._console.out(self._caption, highlight=False)
        elif isinstance(event, RestoreEvent):
            row.restored(event)
            if self._plain:
                self._console.out(_named(row, f"resumes after step {event.step}"), highlight=False)

    def table(self) -> Table:
        """Make the table: one row per prompt, and a total."""
        columns = ("prompt", "epoch", "step", "loss", "score", "best", "left")
        table = Table(*columns, box=None, pad_edge=False, caption=self._caption, caption_justify="left")
        for row in self.rows:
            table.add_row(*row.cells())
        known = [left_s for row in self.rows if (left_s := row.left_s) is not None]
        left = duration(max(known)) if known else ""
        table.add_row("all", "", f"{self._rate():.0f} rows/s", "", "", "", left, style="bold")
        return table

    def _ended(self, event: "EndEvent") -> None:
        """Count a prompt to be scored; after Ctrl-C, announce the scoring."""
        self._num_ended += 1
        if event.stop == "interrupted" and not self._was_interrupted:
            self._was_interrupted = True
            self._console.out(INTERRUPTED, highlight=False)

    def _scoring(self, row: PromptRow) -> None:
        self._num_scored += 1
        count = f"{self._num_scored} of {self._num_ended}"
        self._caption = f"scoring {count}: {row.name}" if row.name else "scoring"
        if self._plain:
            self._console.out(self._caption, highlight=False)

    def _rate(self) -> float:
        now = time.monotonic()
        seen = [(when, rows) for when, rows in tuple(self._seen) if when >= now - _RATE_S]
        if len(seen) < 2 or now <= seen[0][0]:
            return 0.0
        return sum(rows for _, rows in seen) / (now - seen[0][0])


def evaluation_line(row: PromptRow, event: "EvalEvent") -> str:
    """Format an evaluation as a log line."""
    when = f"fit {event.step:3d}" if row.is_head else f"epoch {event.epoch:3d} step {event.step:5d}"
    name = "untrained" if event.train_loss is None else when
    loss = "" if event.train_loss is None else f"  train loss {event.train_loss:.4f}"
    marks = "  best" if event.is_best else ""
    has_one_label = event.metrics.constant_score == 1
    collapsed = "  COLLAPSED: one answer for every row" if event.metrics.collapsed and not has_one_label else ""
    rows = "out-of-fold" if event.is_out_of_fold else "selection"
    value = f"{rows} {row.metric} {event.metrics.score:.4f}  loss {event.metrics.loss:.4f}"
    return _named(row, f"{name:9s}{loss}  {value}{marks}{collapsed}")


def duration(seconds: float) -> str:
    """Format seconds as `4:07` or `1:02:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _named(row: PromptRow, text: str) -> str:
    return f"{row.name}  {text}" if row.name else text
