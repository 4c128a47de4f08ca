"""Cross-validation by `superpos train --split kfold`."""

from pathlib import Path

import numpy as np
import pytest
from support.cli import QUICK, Desk, superpos

from cli.commands.train import read_task_file
from cli.ui.results import print_outcomes
from training.config.arguments import TrainArguments
from training.data.folds import Fold
from training.runs.layout import RESULT
from training.runs.plan import plan_runs


def test_the_command_trains_the_folds_in_one_stack_and_reports_every_row(desk: Desk, tmp_path: Path) -> None:
    answer = superpos(
        *("train", desk.folder / "topic.yaml", "--backbone", desk.tiny_t5, "--out", tmp_path / "folds", *QUICK),
        *("--split", "kfold", "--folds", "3", "--epochs", "1"),
    )
    assert answer.code == 0, answer.stderr
    assert sorted(path.name for path in (tmp_path / "folds").iterdir() if path.is_dir()) == ["fold1", "fold2", "fold3"]
    assert "mean of 3 folds" in answer.stdout
    lines = [line for line in answer.stdout.splitlines() if "│" in line and "fold" in line]
    accuracies = [float(line.split("│")[2].split("±")[0]) for line in lines]
    assert len(accuracies) == 5
    *folds, mean, together = accuracies
    assert mean == pytest.approx(np.mean(folds), abs=1e-4)
    # folds of 40 rows each: the union's accuracy is their mean
    assert together == pytest.approx(mean, abs=1e-4)


def test_a_fold_without_a_result_is_named_and_the_others_are_not_called_all_rows(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task_file, above = desk.folder / "topic.yaml", tmp_path / "folds"
    answer = superpos(
        *("train", task_file, "--backbone", desk.tiny_t5, "--out", above, *QUICK),
        *("--split", "kfold", "--folds", "3", "--epochs", "1", "--limit", "24"),
    )
    assert answer.code == 0, answer.stderr
    (above / "fold2" / RESULT).unlink()  # as a process leaves it that was killed
    _, plans = plan_runs(
        [read_task_file(task_file)],
        [(TrainArguments(), Fold(number=number, of=3)) for number in (1, 2, 3)],
        above,
        split="kfold",
        limit=24,
        precision="fp32",
        resume=True,
        tensorboard=False,
    )
    capsys.readouterr()
    print_outcomes(plans)
    told = capsys.readouterr()
    assert "mean of 2 of 3 folds" in told.out
    assert "all rows, out of fold" not in told.out
    assert "lr 0.05, seed 0: no result of fold 2, so none of all rows out of fold" in told.err


def test_a_prompt_of_a_fold_is_not_published(desk: Desk) -> None:
    refusal = superpos(
        *("train", desk.folder / "topic.yaml", "--split", "kfold", "--publish", desk.folder / "registry.sqlite")
    ).refusal()
    assert "kfold" in refusal
