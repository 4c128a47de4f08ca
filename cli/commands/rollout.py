"""`superpos traffic | rollback | promote`: which version of a task answers."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from adapters.registry.protocol import NO_TRAFFIC, TaskInfo, Traffic
from cli.client.targets import find_task, open_target
from cli.console import CommandError, out
from cli.options import DEFAULT_SERVER, KeyOption, ToOption

TaskArgument = Annotated[str, typer.Argument(help="Name of the task.")]


def traffic(
    task: TaskArgument,
    canary: Annotated[int | None, typer.Option(min=1, help="Version that answers a share of the requests.")] = None,
    percent: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Share of the canary; a caller that gets it keeps it while the share grows."),
    ] = None,
    shadow: Annotated[
        int | None, typer.Option(min=1, help="Version that classifies the same rows for comparison only.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End canary and shadow, so that only production answers.")] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show or change a task's canary and shadow versions. What is not given stays as it is.

    For a gradual release, push the new version with --no-alias, give it a share as the canary, raise the share, then
    promote it. The rollback command returns to the version before.

    \b
        superpos traffic sst2 --shadow 4
        superpos traffic sst2 --canary 4 --percent 10
        superpos traffic sst2 --percent 50
        superpos traffic sst2 --off
        superpos traffic sst2
    """
    given: dict[str, Any] = {"canary": canary, "percent": percent, "shadow": shadow}
    changes = {name: value for name, value in given.items() if value is not None}
    if off and changes:
        raise CommandError("--off cannot be combined with --canary, --percent or --shadow")
    target = open_target(to, key)
    info = find_task(target, task)
    wanted = NO_TRAFFIC if off else replace(info.traffic, **changes)
    if wanted != info.traffic:
        target.set_traffic(task, wanted)
    out.print(_described(info, wanted))


def rollback(
    task: TaskArgument,
    alias: Annotated[str, typer.Option(help="Alias to move; production is the bare task name.")] = "production",
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Return an alias to the version that it pointed at before. Run it again to go one version further back.

    A rollback also ends a canary. To end only the canary, use the --off option of the traffic command.

    \b
        superpos rollback sst2
        superpos rollback sst2 --alias best
    """
    target = open_target(to, key)
    current = find_task(target, task).aliases.get(alias)
    # with the expected version, only one of two concurrent rollbacks moves the alias
    move = target.roll_back(task, alias, current)
    out.print(f"{task}@{alias} is version {move.version}, it was {move.previous}")


def promote(
    task: TaskArgument,
    version: Annotated[int, typer.Argument(min=1, help="Version to put into production.")],
    metric: Annotated[
        str | None,
        typer.Option(help="Metric of the model cards to compare. (default: the selection metric of production)"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote the version without comparing metrics.")] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Put a version into production if its metric is not worse than that of the current version.

    A version whose card lacks the metric is refused, too. Use --force to promote it regardless.

    \b
        superpos promote sst2 4
        superpos promote sst2 4 --metric macro_f1
        superpos promote sst2 4 --force
    """
    done = open_target(to, key).promote(task, version, metric, force)
    why = "forced" if done.metric is None else f"{done.metric} is not worse"
    was = "nothing" if done.move.previous is None else done.move.previous
    out.print(f"{task}@production is version {version}, it was {was}; {why}")


def _described(info: TaskInfo, traffic: Traffic) -> str:
    production = info.aliases.get("production")
    parts = ["no production version" if production is None else f"production is version {production}"]
    if traffic.canary is not None:
        parts.append(f"version {traffic.canary} gets {traffic.percent:g} % as its canary")
    if traffic.shadow is not None:
        parts.append(f"version {traffic.shadow} is its shadow")
    return f"{info.task}: {', '.join(parts)}"
