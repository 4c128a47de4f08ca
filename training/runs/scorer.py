"""What scores the runs of a command: the backbone, and what those runs have in common, each of it computed once."""

import hashlib
from functools import cached_property

from torch import Tensor

from backbone import Backbone
from training.loop.prompt_run import TrainingJob
from training.scoring.evaluation import Scored, TokenizedRows, evaluate
from training.scoring.metrics import Metrics
from training.task.scoring import Scoring


class Scorer:
    """A float32 backbone that remembers what it found for one run, for the others."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._untrained: dict[tuple[str, str, tuple[str, ...], Scoring], Metrics] = {}

    @cached_property
    def int8(self) -> Backbone:
        """The same in int8, converted when it is first asked for. On a CPU alone."""
        return self.backbone.in_precision("int8")

    def untrained(self, start: Scored, job: TrainingJob, report: TokenizedRows) -> Metrics:
        """The metrics of what a run began with; prompts of the same bytes on the same rows are scored once."""
        if not isinstance(start, Tensor):
            return evaluate(self.backbone, start, job.trie, report, scoring=job.scoring)
        prompt = hashlib.sha256(start.cpu().numpy().tobytes()).hexdigest()
        key = (prompt, report.digest(), job.label_words, job.scoring)
        if key not in self._untrained:
            self._untrained[key] = evaluate(self.backbone, start, job.trie, report, scoring=job.scoring)
        return self._untrained[key]
