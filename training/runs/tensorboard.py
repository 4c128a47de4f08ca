"""A run's curves as TensorBoard event files: loss and rate per step, selection metrics per evaluation."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import InvalidArguments
from training.loop.events import EvalEvent, StepEvent

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard:
    """Writes one run's event file, which is created with the first event."""

    def __init__(self, run: Path, *, lr: float) -> None:
        """Prepare the event file of a run.

        Args:
            run: the run's folder; the event files go into `tensorboard` in it
            lr: the rate of each step

        Raises:
            InvalidArguments: TensorBoard is not installed
        """
        if find_spec("tensorboard") is None:
            raise InvalidArguments("tensorboard is not installed; install superpos[tensorboard]")
        self._folder, self._lr = run / FOLDER, lr
        self._first_step: int | None = None
        self._writer: SummaryWriter | None = None

    def restore(self, *, step: int) -> None:
        """Resume after a step; TensorBoard discards the events of later ones."""
        self._first_step = step + 1

    def step(self, event: StepEvent) -> None:
        """Write the loss of a step's batch, and the rate."""
        writer = self._open_writer()
        writer.add_scalar("train/loss", event.loss, event.step)
        writer.add_scalar("train/lr", self._lr, event.step)

    def evaluation(self, event: EvalEvent) -> None:
        """Write all metrics of the selection rows."""
        writer = self._open_writer()
        for name, value in event.metrics.figures().items():
            writer.add_scalar(f"selection/{name}", value, event.step)
        writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def _open_writer(self) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and an extra

            self._writer = SummaryWriter(self._folder, purge_step=self._first_step)
        return self._writer
