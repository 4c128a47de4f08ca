"""Display of a sweep: a progress bar, one line per finished trial, and the table of the best."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from training.loop.events import EvalEvent
    from training.sweeping.study import Trial
    from training.sweeping.sweep import EndedTrial, Sweep

_SHOWN = 10
"""Maximum number of rows in the table."""


class SweepDisplay:
    """Shows a sweep on a terminal. Without a terminal, or with `plain`, it prints one line per trial only."""

    def __init__(self, console: Console, metric: str, *, trials: int, plain: bool) -> None:
        self._console, self._metric = console, metric
        self._progress = Progress(
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("best {task.fields[best]}"),
            TextColumn("{task.fields[pruned]} pruned"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
            transient=True,
            disable=plain,
        )
        self._bar = self._progress.add_task("", total=trials, best="–", pruned=0, last="")

    @contextmanager
    def live(self, sweep: "Sweep") -> Iterator[None]:
        """Show the bar while trials train, starting with the finished trials of a resumed sweep."""
        self._follow(sweep.ended())
        with self._progress:
            yield

    def evaluation(self, trial: "Trial", event: "EvalEvent") -> None:
        """Show the last evaluation of a trial."""
        value = event.metrics.figures()[self._metric]
        self._progress.update(self._bar, last=f"trial {trial.number} epoch {event.epoch} {self._metric} {value:.4f}")

    def ended(self, sweep: "Sweep", trial: "EndedTrial") -> None:
        """Print a finished trial."""
        from training.sweeping.report import shown, title

        names = sweep.plan.space.dimensions_of(trial.arguments)
        drawn = "  ".join(f"{title(name)} {shown(getattr(trial.arguments, name))}" for name in names)
        pruned = "" if trial.stop == "finished" else f"  {trial.stop}"
        line = f"trial {trial.number:3d}  {drawn}  {self._metric} {trial.value:.4f}  epoch {trial.best_epoch}{pruned}"
        self._console.print(line)
        self._follow(sweep.ended())

    def _follow(self, ended: Sequence["EndedTrial"]) -> None:
        if ended:
            pruned = sum(trial.stop == "pruned" for trial in ended)
            self._progress.update(self._bar, completed=len(ended), best=f"{ended[0].value:.4f}", pruned=pruned)


def trials_table(sweep: "Sweep", ended: Sequence["EndedTrial"]) -> Table:
    """Make the table of the best trials with their arguments."""
    from training.sweeping.report import shown, title

    names = sweep.plan.space.dimensions
    pruned = sum(trial.stop == "pruned" for trial in ended)
    heading = f"{sweep.task.task.name}: {len(ended)} trials, {pruned} pruned; selection rows"
    columns = [title(name) for name in names]
    table = Table("trial", sweep.plan.metric, "loss (nats)", "best epoch", *columns, title=heading)
    for trial in ended[:_SHOWN]:
        used = sweep.plan.space.dimensions_of(trial.arguments)
        drawn = [shown(getattr(trial.arguments, name)) if name in used else "–" for name in names]
        table.add_row(str(trial.number), f"{trial.value:.4f}", f"{trial.loss:.4f}", str(trial.best_epoch), *drawn)
    return table
