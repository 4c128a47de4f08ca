"""Runs of a training stack, to compare."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from backbone import Backbone
from support.adapters import TOPIC
from support.training import QUICK, SPEC, easy_rows
from training.config.arguments import TrainArguments
from training.data.examples import Example
from training.loop.events import TrainResult
from training.loop.job import TrainingJob
from training.loop.train import train
from training.methods import Method, ParameterGroup
from training.methods.factory import make_method
from training.scoring.evaluation import tokenize_examples

FIFTY_STEPS = dataclasses.replace(QUICK, epochs=10, batch_size=12)


@dataclasses.dataclass
class Broken:
    """A method that trains well for a number of calls of its prompt, and whose prompt is then not finite."""

    method: Method
    calls: int = 3
    value: float = math.nan

    @property
    def sampled_token_ids(self) -> tuple[int, ...]:
        return self.method.sampled_token_ids

    def prompt(self) -> Tensor:
        self.calls -= 1
        prompt = self.method.prompt()
        return prompt if self.calls >= 0 else prompt * self.value

    def parameter_groups(self) -> list[ParameterGroup]:
        return self.method.parameter_groups()

    def state(self) -> dict[str, Tensor]:
        return self.method.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.method.load_state(state)


def make_job(
    backbone: Backbone, arguments: TrainArguments, *, topic: bool = False, broken: bool = False
) -> TrainingJob:
    """A job of its own rows; `topic` gives it a task with other labels, more of them and longer."""
    spec = TOPIC if topic else SPEC
    label_of = {name: index for index, name in enumerate(spec.label_names)}
    examples = [
        Example(f"text: {row['text']}", label_of[row["label"]], fields={"text": row["text"]})
        for row in easy_rows(84, seed=arguments.seed)
    ]
    method = make_method(arguments, backbone.weights.embedding)
    return TrainingJob(
        method=Broken(method) if broken else method,
        arguments=arguments,
        trie=backbone.label_trie(spec.label_words),
        rows=tokenize_examples(backbone, spec, examples[:60]),
        selection=tokenize_examples(backbone, spec, examples[60:]),
    )


def different(**changes: object) -> TrainArguments:
    return dataclasses.replace(FIFTY_STEPS, **changes)


def alone(backbone: Backbone, job: TrainingJob) -> TrainResult:
    return train(backbone, job.method, job.arguments, trie=job.trie, rows=job.rows, selection=job.selection)


def assert_same(together: TrainResult, apart: TrainResult) -> None:
    assert together.stop == apart.stop
    assert len(together.evaluations) == len(apart.evaluations)
    for ours, theirs in zip(together.evaluations, apart.evaluations, strict=True):
        if theirs.prompt.size:
            difference = np.abs(ours.prompt - theirs.prompt).max() / np.abs(theirs.prompt).max()
            assert difference <= 1e-5, f"epoch {theirs.epoch}: {difference:.1e} of the largest value of the prompt"
        assert abs(ours.metrics.loss - theirs.metrics.loss) <= 1e-4
        assert ours.metrics.accuracy == theirs.metrics.accuracy
