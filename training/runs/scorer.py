"""Scorer of a command's runs; what several runs have in common is computed once."""

import hashlib

from torch import Tensor

from backbone import Backbone, Precision
from training.loop.job import TrainingJob
from training.scoring.evaluation import Scored, TokenizedRows, evaluate
from training.scoring.metrics import Metrics
from training.task.scoring import Scoring


class Scorer:
    """A float32 backbone, its other precisions, and the metrics of untrained prompts."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._precisions: dict[Precision, Backbone] = {"fp32": backbone}
        self._untrained: dict[tuple[str, str, tuple[str, ...], Scoring], Metrics] = {}

    def in_precision(self, precision: Precision) -> Backbone:
        """Return the backbone in a precision, converted on first use."""
        if precision not in self._precisions:
            self._precisions[precision] = self.backbone.in_precision(precision)
        return self._precisions[precision]

    def untrained(self, start: Scored, job: TrainingJob, report: TokenizedRows) -> Metrics:
        """Score what a run starts from; identical prompts are scored once per set of rows."""
        if not isinstance(start, Tensor):
            return evaluate(self.backbone, start, job.trie, report, scoring=job.scoring)
        prompt = hashlib.sha256(start.cpu().numpy().tobytes()).hexdigest()
        key = (prompt, report.digest(), job.label_words, job.scoring)
        if key not in self._untrained:
            self._untrained[key] = evaluate(self.backbone, start, job.trie, report, scoring=job.scoring)
        return self._untrained[key]
