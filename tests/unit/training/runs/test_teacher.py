"""What PANDA learns from and how much: the last source, by the transferability from the first."""

import dataclasses

import numpy as np
import pytest
import torch
from support.adapters import make_adapter
from support.stack import make_job
from support.training import QUICK, SPEC

from adapters import PromptAdapter
from backbone import Backbone
from training.methods import Simple
from training.runs.teacher import start_teacher
from training.scoring.transferability import task_embedding

pytestmark = pytest.mark.usefixtures("one_thread")

PANDA = dataclasses.replace(QUICK, method="panda", distillation=0.6, sources=("a",))


def source(backbone: Backbone, seed: int) -> PromptAdapter:
    return make_adapter(backbone, SPEC, seed=seed, num_virtual_tokens=6)


def cosine(backbone: Backbone, first: torch.Tensor, second: torch.Tensor, rows: list[tuple[int, ...]]) -> float:
    ours, theirs = (task_embedding(backbone, each, rows) for each in (first, second))
    return float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))


def test_the_weight_is_lambda_times_the_transferability_from_the_source_to_the_start_or_to_the_teacher(
    tiny: Backbone,
) -> None:
    rows = make_job(tiny, QUICK).rows
    first, second = source(tiny, 1), source(tiny, 2)
    source_prompt, taught_prompt = (torch.from_numpy(each.prompt.copy()) for each in (first, second))
    start = Simple(3 * torch.randn(6, tiny.width, generator=torch.Generator().manual_seed(7)), weight_decay=0.0)
    ids = list(rows.token_ids)

    alone = start_teacher(tiny, PANDA, start, [first], rows)
    assert alone is not None
    assert torch.equal(alone.prompt, source_prompt)
    assert alone.loss == "panda"
    to_start = cosine(tiny, source_prompt, start.prompt().detach(), ids)
    assert alone.weight == pytest.approx(0.6 * max(0.0, to_start), abs=1e-5)

    both = start_teacher(tiny, dataclasses.replace(PANDA, sources=("a", "b")), start, [first, second], rows)
    assert both is not None
    assert torch.equal(both.prompt, taught_prompt), "the teacher is trained on this task from the source"
    to_teacher = cosine(tiny, source_prompt, taught_prompt, ids)
    assert both.weight == pytest.approx(0.6 * max(0.0, to_teacher), abs=1e-5)
    assert to_teacher != pytest.approx(to_start, abs=1e-4)


def test_a_source_that_does_not_transfer_teaches_nothing(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Simple(torch.zeros(6, tiny.width), weight_decay=0.0)
    monkeypatch.setattr("training.runs.teacher.transferability", lambda *given: -0.4)
    given = start_teacher(tiny, PANDA, start, [source(tiny, 1)], make_job(tiny, QUICK).rows)
    assert given is not None
    assert given.weight == 0


def test_other_methods_have_no_teacher(tiny: Backbone) -> None:
    start = Simple(torch.zeros(6, tiny.width), weight_decay=0.0)
    spot = dataclasses.replace(QUICK, method="spot", sources=("a",))
    assert start_teacher(tiny, spot, start, [source(tiny, 1)], make_job(tiny, QUICK).rows) is None
