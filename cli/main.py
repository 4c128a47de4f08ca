"""Entry point of the `superpos` command. A command's module is imported only when that command runs."""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from cli.console import CommandError, out, report_errors

_SERVE, _TRAIN, _ADAPTERS, _ACCESS = "Serve and query", "Train and evaluate", "Adapters and releases", "Administration"

COMMANDS = {
    "serve": ("serve:serve", _SERVE, "Serve every task of a registry over HTTP."),
    "classify": ("classify:classify", _SERVE, "Classify texts with a running server."),
    "score": ("score:score", _SERVE, "Classify the rows of files."),
    "ray": ("ray:app", _SERVE, "Run the server on a Ray cluster."),
    "usage": ("usage:usage", _SERVE, "Show requests, rows, tokens and errors per day and task."),
    "size": ("size:size", _SERVE, "Plan replicas, memory and autoscaling for a workload."),
    "train": (
        "train:train",
        _TRAIN,
        "Train a prompt for each task and write its run folder.",
    ),
    "trainer": ("trainer:trainer", _TRAIN, "Train the jobs that clients of the servers ask for."),
    "sweep": (
        "sweep:sweep",
        _TRAIN,
        "Search for the best learning rates, readout, method and prompt size with Optuna.",
    ),
    "evaluate": ("evaluate:evaluate", _TRAIN, "Score an adapter on a task's rows with the serving scorer."),
    "report": ("report:report", _TRAIN, "Write one HTML page about finished runs."),
    "task": ("task:app", _TRAIN, "Create task files from labelled rows."),
    "data": ("data:app", _TRAIN, "Check a task's rows before training."),
    "library": ("library:app", _TRAIN, "Train libraries of source prompts, and what new tasks start from."),
    "similar": ("similar:similar", _TRAIN, "Rank adapters as starts of a new task."),
    "paper": ("paper:app", _TRAIN, "Reproduce the tables and the figure of the SuperPos-Prompt paper."),
    "feedback": ("feedback:app", _TRAIN, "List, export and delete corrections of a server's answers."),
    "job": ("job:app", _TRAIN, "Let the trainers of a server train."),
    "push": ("adapters:push", _ADAPTERS, "Publish a trained adapter as the next version of a task."),
    "list": ("adapters:list_tasks", _ADAPTERS, "List tasks with their versions, aliases, canary and shadow."),
    "show": ("versions:show", _ADAPTERS, "Show a task: versions, traffic, scores, shadow agreement and drift."),
    "alias": ("adapters:alias", _ADAPTERS, "Point an alias at a version."),
    "traffic": ("rollout:traffic", _ADAPTERS, "Show or change a task's canary and shadow versions."),
    "promote": ("rollout:promote", _ADAPTERS, "Put a version into production if it is not worse on the same rows."),
    "rollback": ("rollout:rollback", _ADAPTERS, "Return an alias to the version that it pointed at before."),
    "history": ("adapters:history", _ADAPTERS, "Show who changed a task, and when."),
    "delete": ("versions:delete", _ADAPTERS, "Delete a version, or a task with its aliases and traffic."),
    "export": ("adapters:export", _ADAPTERS, "Write an adapter as a PEFT folder."),
    "import": ("adapters:import_folder", _ADAPTERS, "Publish a PEFT prompt-tuning folder."),
    "backbone": ("backbone:app", _ACCESS, "Prepare or inspect the frozen model."),
    "registry": ("registry:app", _ACCESS, "Copy, back up or move a whole registry."),
    "tenant": ("tenant:app", _ACCESS, "Manage the tenants of a server with keys."),
    "key": ("key:app", _ACCESS, "Manage the API keys of tenants."),
}
"""Where each command is defined (`module:object` in `cli.commands`), its panel, and its line in `superpos --help`."""


def load_command(name: str) -> Any:
    """Import and build a command or command group."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    target = getattr(import_module(f"cli.commands.{module}"), attribute)
    if isinstance(target, typer.Typer):
        group = get_group(target)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(target)
    return get_command(alone)


class LazyGroup(TyperGroup):
    """Lists the commands without importing them, and reports their errors."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if "--help" not in rest:
            _check_environment(str(name))
        return name, command and load_command(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        with report_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="superpos",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve thousands of small text classifiers from one frozen T5: train a soft prompt, push it, query it.",
    epilog="Start with: superpos serve, then superpos classify sst2 'a gripping film'",
)


def _check_environment(command: str) -> None:
    """Refuse misspelt `SUPERPOS_…` variables; for a server, all that nothing reads."""
    if not any(name.upper().startswith("SUPERPOS_") for name in os.environ):
        return  # spares the commands that need no settings the import
    from service.settings import UnknownVariable, check_environment

    try:
        check_environment(os.environ, only_misspelt=command not in ("serve", "trainer"))
    except UnknownVariable as exc:
        raise CommandError(str(exc)) from exc


def _version(asked: bool) -> None:
    if asked:
        out.print(f"superpos {version('superpos')}")
        raise typer.Exit


@app.callback()
def superpos(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options that precede a command."""


def _placeholder() -> None:
    """Stand for a command in the list of commands."""


for _name, (_, _panel, _summary) in COMMANDS.items():
    app.command(_name, help=_summary, rich_help_panel=_panel)(_placeholder)


def main() -> None:
    """Run the command, unless another package named `adapters` (PyPI has one) shadows ours."""
    import adapters

    if not getattr(adapters, "SUPERPOS", False):
        sys.exit(
            f"superpos: Python imports another package named 'adapters' ({adapters.__file__}); "
            "uninstall it (pip uninstall adapters) or use a separate environment"
        )
    app()
