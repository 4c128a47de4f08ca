"""`superpos data`: check a task's rows."""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from adapters.printable import visible
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import err, out, print_table
from cli.drafts import label_error
from cli.task_files import read_task_file
from training.data.sources import locate
from training.data.validation.check import CheckedRows, check_rows
from training.data.validation.pieces import ModelView
from training.task.task_file import TaskFile

if TYPE_CHECKING:
    from backbone import Backbone

app = typer.Typer(no_args_is_help=True, help="Check a task's rows before training.")


@app.command()
@backbone_options()
def check(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="Task file of the rows to check.")],
    backbone: BackboneOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Report all faults in a task's rows, with up to three examples each. The exit status is 1 if there are errors.

    Errors stop training: rows that cannot be read, unknown labels with their likely typos, label words that the
    backbone cannot tell apart. Warnings impair it: duplicate rows, the same text under two labels, validation texts
    among the training rows, empty texts, rare labels, truncated texts, and texts that the backbone's vocabulary
    cannot spell or that it reads like another.

    \b
        superpos data check examples/tasks/tickets.yaml
        superpos data check tickets.yaml --json
    """
    task = read_task_file(task_file)
    sources = locate(task.data)
    loaded = load_backbone(backbone)
    with err.status(f"reading the rows of {task.name}"):
        checked = check_rows(task, sources, view=model_view(loaded, task))
    if as_json:
        out.print_data(asdict(checked) | {"task": task.name, "errors": checked.num_errors})
    else:
        _print(task, checked)
    if checked.num_errors:
        raise typer.Exit(1)


def model_view(backbone: "Backbone", task: TaskFile) -> ModelView:
    """Return the backbone's view of a task, for `check_rows`."""
    from backbone import NOTABLE_UNKNOWN_SHARE
    from training.scoring.evaluation import example_texts

    tokenizer = backbone.tokenizer
    return ModelView(
        pieces=tokenizer.pieces,
        rows=partial(example_texts, backbone, task.spec),
        fields=partial(tokenizer.tokenize, max_tokens=sys.maxsize, truncation="error"),
        refusal=lambda: label_error(backbone, task.spec.label_words),
        unknown_id=tokenizer.unknown_id,
        notable_share=NOTABLE_UNKNOWN_SHARE,
    )


def _print(task: TaskFile, checked: CheckedRows) -> None:
    for note in checked.notes:
        err.print(note, style="yellow")
    counts = ", ".join(f"{count} {role}" for role, count in checked.rows.items())
    if not checked.findings:
        out.print(f"{task.name}: {counts} rows, {len(checked.labels)} labels; no faults found")
        return
    table = Table("", "fault", "count", "examples", title=f"{task.name}: {counts} rows", show_lines=True)
    for each in checked.findings:
        level = Text(each.level, style="red" if each.level == "error" else "yellow")
        fault = Text.assemble(visible(each.message), "\n", (each.code, "dim"))
        table.add_row(level, fault, str(each.count), "\n".join(each.examples))
    print_table(table)
