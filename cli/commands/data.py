"""`superpos data`: what is wrong with a task's rows."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.backbone_options import load_backbone
from cli.commands.train import read_task_file
from cli.console import err, out, print_table, report_errors
from cli.options import BackboneOption, CacheOption, OfflineOption, RevisionOption

if TYPE_CHECKING:
    from backbone import Backbone
    from training.data.validation.check import CheckedRows
    from training.task.task_file import TaskFile

app = typer.Typer(no_args_is_help=True, help="The rows of a task.")


@app.command()
def check(
    task_file: Annotated[Path, typer.Argument(metavar="TASK.yaml", help="The task whose rows are checked.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    backbone: BackboneOption = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Look for faults in a task's rows before training: all of them, with up to three examples each.

    Errors are what training refuses (rows that cannot be read, unknown labels and their likely typos, label words that
    the backbone cannot tell apart); there, the status is 1. Warnings are what it would learn badly from: duplicates,
    the same text under two labels, validation texts that are trained on, empty texts, rare labels, texts that are cut.

    \b
        superpos data check examples/tasks/tickets.yaml
        superpos data check tickets.yaml --json
    """
    from backbone import BackboneError
    from training.data.sources import locate
    from training.data.validation.check import check_rows
    from training.errors import TrainingError

    with report_errors(BackboneError, TrainingError):
        task = read_task_file(task_file)
        sources = locate(task.data)
        loaded = load_backbone(backbone, cache_dir=cache_dir, revision=revision, offline=offline)
        with err.status(f"reading the rows of {task.name}"):
            checked = check_rows(task, sources, pieces=loaded.tokenizer.pieces, refusal=lambda: _refusal(loaded, task))
    if as_json:
        out.print_json(data=asdict(checked) | {"task": task.name, "errors": checked.num_errors})
    else:
        _print(task, checked)
    if checked.num_errors:
        raise typer.Exit(1)


def _refusal(backbone: "Backbone", task: "TaskFile") -> str | None:
    """Why no label trie can be built of the task's words."""
    from backbone import InvalidLabels

    try:
        backbone.label_trie(task.spec.label_words)
    except InvalidLabels as exc:
        return str(exc)
    return None


def _print(task: "TaskFile", checked: "CheckedRows") -> None:
    counts = ", ".join(f"{count} {role}" for role, count in checked.rows.items())
    if not checked.findings:
        out.print(f"{task.name}: {counts} rows, {len(checked.labels)} labels; nothing to find fault with", markup=False)
        return
    table = Table("", "fault", "count", "for example", title=escape(f"{task.name}: {counts} rows"), show_lines=True)
    for each in checked.findings:
        style = "red" if each.level == "error" else "yellow"
        examples = "\n".join(map(escape, each.examples))
        table.add_row(
            f"[{style}]{each.level}[/]", f"{escape(each.message)}\n[dim]{each.code}[/]", str(each.count), examples
        )
    print_table(table)
