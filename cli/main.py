"""The `superpos` command's tree and entry point."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cli.commands import adapters as adapters_commands
from cli.commands import backbone as backbones
from cli.commands import data as data_commands
from cli.commands import key as key_commands
from cli.commands import paper as paper_commands
from cli.commands import records as record_commands
from cli.commands import registry as registry_commands
from cli.commands import rollout as rollout_commands
from cli.commands import task as task_commands
from cli.commands import tenant as tenant_commands
from cli.commands.classify import classify
from cli.commands.evaluate import evaluate
from cli.commands.report import report
from cli.commands.serve import serve
from cli.commands.sweep import sweep
from cli.commands.train import train
from cli.console import out

app = typer.Typer(
    name="superpos",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Thousands of small text classifiers on one frozen T5: train a soft prompt, push it, ask it.",
    epilog="Start with: superpos serve, then superpos classify sst2 'a gripping film'",
)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"superpos {version('superpos')}", markup=False)
        raise typer.Exit


@app.callback()
def superpos(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What every command shares: nothing but the version."""


app.command()(serve)
app.command()(train)
app.command()(sweep)
app.command()(evaluate)
app.command()(report)
app.command()(adapters_commands.push)
app.command("list")(adapters_commands.list_tasks)
app.command()(adapters_commands.alias)
app.command()(rollout_commands.traffic)
app.command()(rollout_commands.rollback)
app.command()(rollout_commands.promote)
app.command()(record_commands.history)
app.command()(record_commands.usage)
app.command()(classify)
app.command()(adapters_commands.export)
app.command("import")(adapters_commands.import_folder)
app.add_typer(task_commands.app, name="task")
app.add_typer(data_commands.app, name="data")
app.add_typer(paper_commands.app, name="paper")
app.add_typer(backbones.app, name="backbone")
app.add_typer(registry_commands.app, name="registry")
app.add_typer(tenant_commands.app, name="tenant")
app.add_typer(key_commands.app, name="key")


def main() -> None:
    """Run the command, unless PyPI's `adapters` has taken the place of ours."""
    import adapters

    if not getattr(adapters, "SUPERPOS", False):
        sys.exit(
            f"superpos: the package 'adapters' that Python finds is another one ({adapters.__file__}); "
            "uninstall it (pip uninstall adapters) or use an environment of its own"
        )
    app()
