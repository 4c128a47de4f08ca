"""Recorder of a run: writes curves, the best tensors and the cost into its folder, from the events of its job."""

from backbone import Backbone
from training.loop.events import EvalEvent, RestoreEvent, StepEvent, TrainResult
from training.methods import Method
from training.runs.folder import RunFolder
from training.runs.prompt_words import prompt_words
from training.runs.provenance import cost_of
from training.runs.tensorboard import TensorBoard
from training.scoring.evaluation import TokenizedRows


class RunRecorder:
    """Writes what the report is made from. The method's tensors are those of the best epoch, as in the adapter."""

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
            board: also receives every event
        """
        self._folder, self._method, self._board = folder, method, board
        self._tokens_per_row = rows.mean_tokens + method.prompt().shape[0]

    def restore(self, event: RestoreEvent) -> None:
        """Rewind the curves to the checkpoint that the run resumes from."""
        self._folder.rewind(event.evaluations, step=event.step)
        if self._board is not None:
            self._board.restore(step=event.step)

    def step(self, event: StepEvent) -> None:
        """Write the step at once, because a killed run may resume from any step."""
        self._folder.write_steps([event])
        if self._board is not None:
            self._board.step(event)

    def evaluation(self, event: EvalEvent) -> None:
        """Write the evaluation, and the method's tensors if it is the best."""
        self._folder.write_evaluation(event)
        if self._board is not None:
            self._board.evaluation(event)
        if event.is_best:
            self._folder.write_method(self._method.state())

    def finish(self, backbone: Backbone, result: TrainResult) -> None:
        """Write what is known only at the end. The best tensors are read back: they may be from before a resume."""
        words = prompt_words(backbone, result.prompt, self._folder.read_method(), self._method.sampled_token_ids)
        self._folder.write_words(words)
        self._folder.write_cost(cost_of(result.timing, tokens_per_row=self._tokens_per_row, device=backbone.device))
        if self._board is not None:
            self._board.close()
