"""The ranking of adapters as starts of a new task."""

from pathlib import Path

import numpy as np
import pytest
from support.adapters import make_adapter
from support.training import topics_task

from backbone import Backbone
from training.config.presets import train_arguments
from training.errors import InvalidArguments
from training.loop.job import TrainingJob
from training.loop.train import train_stack
from training.methods.factory import make_method
from training.runs.task_rows import TaskRows
from training.source_prompts.collection import read_library
from training.source_prompts.similar import Candidate, RankedStart, Ranking, rank_starts
from training.task.task_file import TaskFile

FEW_TOKENS = {"num_sampled_tokens": 32}
"""The tiny backbone has fewer tokens than SuperPos samples by default."""

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def candidates(backbone: Backbone, library: Path) -> list[Candidate]:
    trained = [Candidate(str(source.folder), source.adapter) for source in read_library(backbone, library)]
    return [*trained, Candidate("strange", make_adapter(backbone, seed=9, num_virtual_tokens=4))]


def test_adapters_are_ranked_by_transferability_and_with_trials_by_their_scores(
    tiny: Backbone, library: Path, task: TaskFile
) -> None:
    found = candidates(tiny, library)
    ranking = rank_starts(tiny, task, found, steps=8, trial=False, limit=48)
    assert ranking.own_score is None
    assert {start.name for start in ranking.starts} == {each.name for each in found}
    transferred = [start.transferability for start in ranking.starts]
    assert transferred == sorted(transferred, reverse=True)
    assert all(
        -1 <= value <= 1 for start in ranking.starts for value in (start.mean_similarity, start.token_similarity)
    )
    assert ranking.best == ranking.starts[0]

    tried = rank_starts(tiny, task, found, steps=8, trial=True, limit=48, explicit=FEW_TOKENS)
    scores = [start.trial_score for start in tried.starts]
    assert None not in scores
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert tried.own_score is not None
    assert {start.name: start.transferability for start in tried.starts} == pytest.approx(
        {start.name: start.transferability for start in ranking.starts}, abs=1e-4
    )


def test_adapters_beyond_the_most_similar_ones_are_left_out_and_counted(
    tiny: Backbone, library: Path, task: TaskFile
) -> None:
    found = candidates(tiny, library)
    whole = rank_starts(tiny, task, found, steps=4, trial=False, limit=48)
    assert whole.num_left_out == 0
    some = rank_starts(tiny, task, found, steps=4, trial=False, keep=2, limit=48)
    assert (len(some.starts), some.num_left_out) == (2, 3)
    nearest = sorted(whole.starts, key=lambda start: start.mean_similarity, reverse=True)[:2]
    assert {start.name for start in some.starts} == {start.name for start in nearest}


def test_a_prompt_of_the_task_itself_is_the_best_start(tiny: Backbone, library: Path, task: TaskFile) -> None:
    tried = rank_starts(tiny, task, candidates(tiny, library), steps=2, trial=True, limit=48, explicit=FEW_TOKENS)
    assert tried.starts[0].name != "strange"
    assert tried.starts[0].trial_score is not None
    assert tried.own_score is not None
    assert tried.starts[0].trial_score >= tried.own_score


def test_the_trial_without_an_adapter_trains_superpos_with_the_options_of_the_run(
    tiny: Backbone, library: Path, task: TaskFile
) -> None:
    found = candidates(tiny, library)
    rows = TaskRows(tiny, task).divided(split="honest", seed=0, limit=48, max_selection=48)
    run = {"batch_size": 4, "num_sampled_tokens": 16, "max_steps": 2, "readout": "pooled", "readout_lr": 0.1}
    scores = {}
    for tokens in (16, 32):
        arguments = train_arguments(
            {
                "batch_size": 4,
                "num_sampled_tokens": tokens,
                "num_virtual_tokens": len(found[0].adapter.prompt),
                "max_steps": 20,
                "epochs": 1_000,
                "eval_every": 5,
                "patience": 0,
            }
        )
        job = TrainingJob(
            method=make_method(arguments, tiny.weights.embedding),
            arguments=arguments,
            trie=tiny.label_trie(task.spec.label_words),
            rows=rows.train,
            selection=rows.selection,
            label_words=tuple(task.spec.label_words),
            scoring=task.scoring,
        )
        (result,) = train_stack(tiny, [job])
        scores[tokens] = result.best.score
    assert scores[16] != scores[32], "the selection rows distinguish the two"
    tried = rank_starts(tiny, task, found, steps=20, trial=True, limit=48, explicit=run)
    assert tried.own_score == scores[16]


def test_no_start_is_best_if_the_own_one_scores_as_well() -> None:
    start = RankedStart(
        name="a",
        digest="sha256:aa",
        method="simple",
        num_virtual_tokens=4,
        mean_similarity=0.1,
        token_similarity=0.1,
        transferability=0.9,
        trial_score=0.7,
    )
    assert Ranking((start,), 0.6, "accuracy").best == start
    assert Ranking((start,), 0.7, "accuracy").best is None
    assert np.isclose(start.transferability, 0.9)


def test_adapters_without_a_prompt_and_tasks_without_label_words_are_refused(
    tiny: Backbone, tmp_path: Path, task: TaskFile
) -> None:
    with pytest.raises(InvalidArguments, match="none of 0 adapters has a prompt"):
        rank_starts(tiny, task, [], steps=1, trial=False)
    topics = topics_task(tmp_path)
    with pytest.raises(InvalidArguments, match="is multi_label, expected one with label words"):
        rank_starts(tiny, topics, [Candidate("a", make_adapter(tiny))], steps=1, trial=False)
