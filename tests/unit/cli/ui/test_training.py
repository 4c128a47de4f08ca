"""What is seen of training: a table that lives on a terminal, lines without control characters elsewhere."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from cli.ui.training import INTERRUPTED, TrainingDisplay, duration
from training.loop.events import EvalEvent, RestoreEvent, StepEvent
from training.runs.executor import EndEvent, RowsEvent, ScoreEvent
from training.scoring.metrics import Metrics

PROMPTS = [("lr0.1-seed0", "accuracy", "superpos"), ("lr0.1-seed1", "accuracy", "superpos")]


def evaluation(
    step: int, score: float, *, best: bool = True, collapsed: bool = False, constant: float = 0.5
) -> EvalEvent:
    metrics = Metrics(
        values={"accuracy": score, "macro_f1": score},
        score=score,
        loss=0.5,
        constants={"accuracy": 0.5, "macro_f1": 0.3},
        constant_score=constant,
        collapsed=collapsed,
    )
    prompt = np.zeros((1, 1), dtype=np.float32)
    return EvalEvent(1 if step else 0, step, 0.25 if step else None, metrics, best, prompt, float(step))


def told(display: TrainingDisplay, console: Console, events: Sequence[tuple[int, object]]) -> str:
    with display.live():
        for number, event in events:
            display.watch(number, event)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


EVENTS = [
    (0, evaluation(0, 0.5)),
    (1, evaluation(0, 0.4, collapsed=True)),
    *[(0, StepEvent(1, step, 100, 0.75, 16, step * 2.0)) for step in range(1, 11)],
    (0, evaluation(10, 0.9)),
    (0, StepEvent(2, 11, 100, 0.25, 16, 22.0)),
    (0, StepEvent(2, 12, 100, 0.25, 16, 24.0)),
]


@pytest.mark.parametrize("plain", [True, False])
def test_a_note_on_rows_is_printed_once_for_all_prompts_and_as_it_is_written(plain: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=20)
    notes = RowsEvent(("[/bold].csv: read with separator ';', encoding cp1252",))
    text = told(TrainingDisplay(console, PROMPTS, plain=plain), console, [(0, notes), (1, notes)])
    assert text == "[/bold].csv: read with separator ';', encoding cp1252\n"


@pytest.mark.parametrize(("terminal", "plain"), [(True, True), (False, False)])
def test_a_log_has_a_line_an_evaluation_and_no_control_characters(terminal: bool, plain: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    text = told(TrainingDisplay(console, PROMPTS, plain=plain), console, EVENTS)
    assert text.splitlines() == [
        "lr0.1-seed0  untrained  selection accuracy 0.5000  loss 0.5000  best",
        "lr0.1-seed1  untrained  selection accuracy 0.4000  loss 0.5000  best  COLLAPSED: one answer for every row",
        "lr0.1-seed0  epoch   1 step    10  train loss 0.2500  selection accuracy 0.9000  loss 0.5000  best",
    ]
    assert all(character.isprintable() or character == "\n" for character in text)


def test_a_head_has_fits_instead_of_epochs_and_one_label_in_the_rows_is_no_collapse() -> None:
    console = Console(file=io.StringIO(), width=200)
    display = TrainingDisplay(console, [("", "accuracy", "head")], plain=True)
    events = [(0, evaluation(0, 1.0, collapsed=True, constant=1.0)), (0, StepEvent(3, 3, 13, 0.25, 16, 0.1))]
    text = told(display, console, [*events, (0, evaluation(3, 0.9))])
    assert text.splitlines() == [
        "untrained  selection accuracy 1.0000  loss 0.5000  best",
        "fit   3    train loss 0.2500  selection accuracy 0.9000  loss 0.5000  best",
    ]
    assert display.rows[0].cells()[:3] == ("", "", "3/13")


def test_a_terminal_gets_a_row_a_prompt_and_one_for_all() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = TrainingDisplay(console, PROMPTS, plain=False)
    told(display, console, EVENTS)
    shown = Console(file=io.StringIO(), width=120)
    shown.print(display.table())
    assert isinstance(shown.file, io.StringIO)
    lines = [line.split() for line in shown.file.getvalue().splitlines()]
    assert lines[0] == ["prompt", "epoch", "step", "loss", "score", "best", "left"]
    # of 12 steps, ten had a loss of 0.75; 88 are left at 2 s each
    assert lines[1] == ["lr0.1-seed0", "2", "12/100", "0.667", "0.9000", "0.9000", "2:56"]
    assert lines[2][:2] == ["lr0.1-seed1", "0"]
    assert lines[3][0] == "all"
    assert lines[3][2] == "rows/s"
    assert lines[3][-1] == "2:56"


def test_a_prompt_that_goes_on_shows_where_it_was() -> None:
    console = Console(file=io.StringIO(), width=120)
    display = TrainingDisplay(console, [("", "F1", "superpos")], plain=True)
    history = (evaluation(0, 0.5), evaluation(10, 0.9), evaluation(20, 0.8, best=False))
    text = told(display, console, [(0, RestoreEvent(history, 25))])
    assert text == "resumes after step 25\n"
    (row,) = display.rows
    assert (row.step, row.value, row.best) == (25, 0.8, 0.9)


ENDED = [*((number, EndEvent("finished")) for number in (0, 1)), (0, ScoreEvent()), (1, ScoreEvent())]


def test_what_is_scored_after_training_is_told_of() -> None:
    console = Console(file=io.StringIO(), width=200)
    text = told(TrainingDisplay(console, PROMPTS, plain=True), console, ENDED)
    assert text.splitlines() == ["scoring 1 of 2: lr0.1-seed0", "scoring 2 of 2: lr0.1-seed1"]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = TrainingDisplay(terminal, PROMPTS, plain=False)
    told(display, terminal, ENDED)
    assert display.table().caption == "scoring 2 of 2: lr0.1-seed1"


@pytest.mark.parametrize("plain", [True, False])
def test_after_an_interrupt_it_is_said_once_and_at_once_that_training_has_ended(plain: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=not plain, width=200)
    events = [(0, EndEvent("interrupted")), (1, EndEvent("interrupted"))]
    text = told(TrainingDisplay(console, PROMPTS, plain=plain), console, events)
    assert text.count(INTERRUPTED) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (67, "1:07"), (3_729, "1:02:09")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
