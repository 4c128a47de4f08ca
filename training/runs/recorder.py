"""Writes a run's curves, its best tensors and its cost into its folder, out of the events of its job."""

from backbone import Backbone
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, TrainResult
from training.methods import Method
from training.runs.folder import RunFolder
from training.runs.prompt_words import prompt_words
from training.runs.provenance import cost_of
from training.runs.tensorboard import TensorBoard
from training.scoring.evaluation import TokenizedRows


class RunRecorder:
    """Keeps what the report is made of. Of the method's tensors, those of the best epoch: the adapter's own."""

    def __init__(
        self,
        folder: RunFolder,
        method: Method,
        rows: TokenizedRows,
        *,
        board: TensorBoard | None = None,
    ) -> None:
        """Record one run.

        Args:
            rows: the training rows
            board: told of every event as well
        """
        self._folder, self._method, self._board = folder, method, board
        self._tokens_a_row = rows.mean_tokens + method.prompt().shape[0]

    def restore(self, event: RestoreEvent) -> None:
        """The run goes on from a checkpoint."""
        self._folder.rewind(event.evaluations, step=event.step)
        if self._board is not None:
            self._board.restore(step=event.step)

    def step(self, event: StepEvent) -> None:
        """Written at once: a run that is killed goes on from any step."""
        self._folder.write_steps([event])
        if self._board is not None:
            self._board.step(event)

    def evaluation(self, event: EvalEvent) -> None:
        """Write what came up to here."""
        self._folder.write_evaluation(event)
        if self._board is not None:
            self._board.evaluation(event)
        if event.is_best:
            self._folder.write_method(self._method.state())

    def finish(self, backbone: Backbone, result: TrainResult) -> None:
        """Write what is known at the end alone. Best tensors come from the folder: a resumed run may have made them."""
        words = prompt_words(backbone, result.prompt, self._folder.read_method(), self._method.sampled_token_ids)
        self._folder.write_words(words)
        self._folder.write_cost(cost_of(result.timing, tokens_a_row=self._tokens_a_row, device=backbone.device))
        if self._board is not None:
            self._board.close()
