"""Training over a library: what it leaves, that it learns, that it resumes to the last digit, and what it refuses."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training import QUICK, run
from torch import Tensor

from backbone import Backbone
from training.config.choices import MethodName
from training.errors import InvalidArguments, InvalidCheckpoint, TrainingError
from training.loop.distillation import encode_with
from training.methods.intrinsic import Autoencoder
from training.methods.multitask import SharedPrompt
from training.methods.prior import PRIOR, Prior, PriorKind, read_prior
from training.methods.tokens import sample_token_ids
from training.source_prompts.collection import SourcePrompt, best_of_each_task, read_library
from training.source_prompts.joint import CHECKPOINT, JointArguments, JointSource, JointStep, train_joint
from training.source_prompts.shared import train_shared
from training.source_prompts.subspace import train_subspace
from training.task.task_file import TaskFile

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

ARGUMENTS = JointArguments(steps=12, sources_per_step=2, batch_size=4, lr=0.3, by_size=True)
Trainer = Callable[..., Prior]


def share(
    backbone: Backbone, library: Path, folder: Path, arguments: JointArguments = ARGUMENTS, **more: object
) -> Prior:
    return train_shared(
        backbone,
        read_library(backbone, library),
        arguments,
        folder=folder,
        **{"distillation": 0.9, "weight_decay": 0.0, **more},  # type: ignore[arg-type]
    )


def find(
    backbone: Backbone, library: Path, folder: Path, arguments: JointArguments = ARGUMENTS, **more: object
) -> Prior:
    return train_subspace(
        backbone,
        read_library(backbone, library),
        dataclasses.replace(arguments, lr=arguments.lr / 100, by_size=False),
        folder=folder,
        **{"dimensions": 3, "hidden": 8, "reconstruction": 1.0, "weight_decay": 0.0, **more},  # type: ignore[arg-type]
    )


def interrupt_at(number: int) -> Callable[[JointStep], None]:
    def stop(step: JointStep) -> None:
        if step.step == number:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("case", [(share, "mpt", "shared"), (find, "ipt", "subspace")], ids=["mpt", "ipt"])
def test_what_a_library_leaves_starts_a_new_task(
    tiny: Backbone, library: Path, tmp_path: Path, task: TaskFile, case: tuple[Trainer, MethodName, PriorKind]
) -> None:
    train, method, kind = case
    losses: list[JointStep] = []
    arguments = dataclasses.replace(ARGUMENTS, steps=40)
    prior = train(tiny, library, tmp_path / "prior", arguments, on_step=losses.append)
    assert [step.step for step in losses] == list(range(1, 41))
    assert np.mean([step.loss for step in losses[-8:]]) < np.mean([step.loss for step in losses[:8]])
    assert (tmp_path / "prior" / PRIOR).is_file()
    assert not (tmp_path / "prior" / CHECKPOINT).exists()
    found = read_prior(tmp_path / "prior", fingerprint=tiny.identity.fingerprint, width=tiny.width, kind=kind)
    assert found.digest == prior.digest
    adapted = dataclasses.replace(QUICK, method=method, sources=(str(tmp_path / "prior"),), epochs=2)
    report = run(tiny, task, tmp_path / "run", adapted, limit=48).report
    assert report.adapter is not None
    assert report.adapter.prompt.shape == (6, tiny.width)
    assert report.adapter.manifest.provenance.hyperparameters["sources"] == prior.digest
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["sources"] == [prior.digest]


@pytest.mark.parametrize("train", [share, find])
def test_an_interrupted_training_resumes_to_the_last_digit(
    tiny: Backbone, library: Path, tmp_path: Path, train: Trainer
) -> None:
    whole = train(tiny, library, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, library, tmp_path / "parts", on_step=interrupt_at(5))
    assert (tmp_path / "parts" / CHECKPOINT).is_file()
    steps: list[JointStep] = []
    resumed = train(tiny, library, tmp_path / "parts", on_step=steps.append)
    assert [step.step for step in steps] == list(range(6, 13))
    assert resumed.digest == whole.digest


def test_an_interruption_between_the_update_and_its_count_repeats_no_update(
    tiny: Backbone, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = share(tiny, library, tmp_path / "whole")
    update, updates = torch.optim.AdamW.step, itertools.count(1)

    def interrupted(optimizer: torch.optim.AdamW) -> None:
        update(optimizer)
        if next(updates) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            share(tiny, library, tmp_path / "parts")
    assert share(tiny, library, tmp_path / "parts").digest == whole.digest


def test_a_checkpoint_of_other_settings_and_a_damaged_one_are_refused(
    tiny: Backbone, library: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        share(tiny, library, tmp_path, on_step=interrupt_at(2))
    with pytest.raises(InvalidCheckpoint, match="its distillation differ from what was asked for"):
        share(tiny, library, tmp_path, distillation=0.5)
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(InvalidCheckpoint, match="not a valid checkpoint"):
        share(tiny, library, tmp_path)


def test_the_best_prompt_of_each_task_teaches(tiny: Backbone, library: Path) -> None:
    sources = read_library(tiny, library)
    assert [source.task.name for source in sources] == ["first", "first", "second", "second"]
    best = best_of_each_task(sources)
    assert [source.task.name for source in best] == ["first", "second"]
    for source in best:
        scores = [each.result.selection.score for each in sources if each.task.name == source.task.name]
        assert source.result.selection.score == max(scores)


def test_a_library_of_one_task_an_empty_one_and_one_of_two_lengths_are_refused(
    tiny: Backbone, library: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArguments, match="holds no finished run with label words"):
        read_library(tiny, tmp_path)
    with pytest.raises(InvalidArguments, match="the library has 1 task, expected at least 2"):
        share(tiny, library / "first", tmp_path / "out")
    shutil.copytree(library, tmp_path / "mixed")
    sources = read_library(tiny, library)
    rows = sources[0].task
    run(tiny, rows, tmp_path / "mixed" / "short", dataclasses.replace(QUICK, num_virtual_tokens=3, epochs=1), limit=24)
    with pytest.raises(InvalidArguments, match="prompts of 3 and 6 virtual tokens"):
        read_library(tiny, tmp_path / "mixed")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"lr": 0.0}, "lr is 0.0, expected above 0 and at most 100"),
    ],
)
def test_arguments_outside_their_bounds_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        dataclasses.replace(ARGUMENTS, **changes)
    assert str(caught.value) == expected


def test_a_loss_that_is_not_finite_ends_it_in_words(tiny: Backbone, library: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="try a lower learning rate"):
        share(tiny, library, tmp_path, dataclasses.replace(ARGUMENTS, lr=100.0, steps=50), distillation=float("inf"))


class _Stepped(Exception):
    """The first update is due."""


def gradients(monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> list[Tensor]:
    """The gradient of each parameter at the first update."""
    found: list[Tensor] = []

    def caught(optimizer: torch.optim.AdamW) -> None:
        found.extend(parameter.grad for group in optimizer.param_groups for parameter in group["params"])
        raise _Stepped

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", caught)
        with pytest.raises(_Stepped):
            train()
    return found


def label_loss(backbone: Backbone, source: SourcePrompt, prompt: Tensor) -> Tensor:
    """The mean negative log-probability of the right label over all rows of a source, behind a prompt."""
    ids, trie = list(source.rows.token_ids), backbone.label_trie(source.task.spec.label_words)
    scores = backbone.score(encode_with(backbone, [prompt] * len(ids), ids), [trie] * len(ids))
    return -scores[torch.arange(len(ids)), torch.from_numpy(source.rows.labels)].mean()


EVERYTHING = dataclasses.replace(ARGUMENTS, steps=1, sources_per_step=4, batch_size=1_000)
"""A step that takes all rows of all sources, so that nothing is drawn."""


def test_ipts_gradient_is_of_the_mean_loss_of_the_tasks_plus_alpha_times_the_error(
    tiny: Backbone, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = read_library(tiny, library)
    found = gradients(monkeypatch, lambda: find(tiny, library, tmp_path, EVERYTHING, reconstruction=2.5))
    prompts = [source.prompt(tiny.device) for source in sources]
    generator = torch.Generator().manual_seed(EVERYTHING.seed)
    model = Autoencoder(prompts, dimensions=3, hidden=8, weight_decay=0.0, generator=generator)
    scale = torch.stack(prompts).std()
    losses = [label_loss(tiny, source, model.prompt(number)) for number, source in enumerate(sources)]
    errors = [((model.prompt(number) - prompt) / scale).square().mean() for number, prompt in enumerate(prompts)]
    (sum(losses) / 4 + 2.5 * sum(errors) / 4).backward()  # type: ignore[union-attr]
    (group,) = model.parameter_groups()
    for ours, expected in zip(found, group["params"], strict=True):
        torch.testing.assert_close(ours, expected.grad, rtol=1e-3, atol=1e-5)


def test_mpts_gradient_is_of_the_mean_loss_of_the_tasks_plus_lambda_times_the_distillation(
    tiny: Backbone, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distillation of a row is written out in `test_distillation`."""
    none, one, three = (
        gradients(monkeypatch, lambda: share(tiny, library, tmp_path, EVERYTHING, distillation=weight))  # noqa: B023
        for weight in (0.0, 1.0, 3.0)
    )
    best = best_of_each_task(read_library(tiny, library))
    embedding = tiny.weights.embedding
    generator = torch.Generator().manual_seed(EVERYTHING.seed)
    start = embedding[sample_token_ids(6, vocab_size=len(embedding), generator=generator)]
    model = SharedPrompt(start, num_tasks=2, weight_decay=0.0)
    (sum(label_loss(tiny, source, model.prompt(number)) for number, source in enumerate(best)) / 2).backward()
    (group,) = model.parameter_groups()
    for number, parameter in enumerate(group["params"]):
        torch.testing.assert_close(none[number], parameter.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(three[number] - none[number], 3 * (one[number] - none[number]), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(one[0], none[0], rtol=0.1)


@pytest.mark.parametrize(("by_size", "share_of_the_large"), [(True, 36 / 42), (False, 1 / 2)])
def test_sources_are_drawn_by_their_rows_or_equally_often(
    tiny: Backbone, library: Path, tmp_path: Path, by_size: bool, share_of_the_large: float
) -> None:
    source, small = best_of_each_task(read_library(tiny, library))
    prompts = [source.prompt(tiny.device), small.prompt(tiny.device)]
    words = tuple(source.task.spec.label_words)
    rows = [source.rows.at(np.arange(36)), small.rows.at(np.arange(6))]
    drawn: list[int] = []

    def record(chosen: Sequence[int]) -> Tensor:
        drawn.extend(chosen)
        return 0 * prompts[0].sum().requires_grad_()

    train_joint(
        tiny,
        SharedPrompt(prompts[0], num_tasks=2, weight_decay=0.0),
        [JointSource(name, each, words) for name, each in zip("ab", rows, strict=True)],
        JointArguments(steps=120, sources_per_step=1, batch_size=1, lr=1e-6, by_size=by_size),
        folder=tmp_path,
        described={},
        penalty=record,
    )
    assert len(drawn) == 120
    # three standard deviations of 120 draws
    assert drawn.count(0) / 120 == pytest.approx(share_of_the_large, abs=3 * 0.5 / 120**0.5)
