"""`superpos traffic | rollback | promote`: which version of a task answers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import CommandError, out, report_errors
from cli.options import DEFAULT_SERVER, KeyOption, ToOption

if TYPE_CHECKING:
    from adapters.registry.protocol import TaskInfo, Traffic
    from cli.client.targets import Target

TaskArgument = Annotated[str, typer.Argument(help="The task.")]


def traffic(
    task: TaskArgument,
    canary: Annotated[int | None, typer.Option(min=1, help="The version that gets part of the requests.")] = None,
    percent: Annotated[
        float | None, typer.Option(min=0, max=100, help="Its part; who is in stays in while it grows.")
    ] = None,
    shadow: Annotated[
        int | None, typer.Option(min=1, help="The version that computes the same rows, only to be compared.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End canary and shadow: production answers alone.")] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show how a task's bare name is answered, or change it. What no option names stays as it is.

    A rollout: push the new version with --no-alias, give it a part, raise that, promote it. Rollback goes back.

    \b
        superpos traffic sst2 --shadow 4
        superpos traffic sst2 --canary 4 --percent 10
        superpos traffic sst2 --percent 50
        superpos traffic sst2 --off
        superpos traffic sst2
    """
    from adapters.errors import AdapterError
    from adapters.registry.protocol import NO_TRAFFIC
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        if off and (canary, percent, shadow) != (None, None, None):
            raise CommandError("--off ends canary and shadow, so it stands alone")
        place = open_source(to, key)
        info = _task(place, task)
        wanted = NO_TRAFFIC if off else _changed(info.traffic, canary, percent, shadow)
        if wanted != info.traffic:
            place.set_traffic(task, wanted)
        out.print(_told(info, wanted), markup=False)


def rollback(
    task: TaskArgument,
    alias: Annotated[str, typer.Option(help="The alias to move; production is the bare task name.")] = "production",
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Point a task's production version back to the one before it. Run again, it goes one further back.

    It ends a canary too; the traffic command's --off ends a canary alone.

    \b
        superpos rollback sst2
        superpos rollback sst2 --alias best
    """
    from adapters.errors import AdapterError
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        place = open_source(to, key)
        current = _task(place, task).aliases.get(alias)
        move = place.roll_back(task, alias, current)  # of two who saw the same version, one moves it
        out.print(f"{task}@{alias} is version {move.version}, it was {move.previous}", markup=False)


def promote(
    task: TaskArgument,
    version: Annotated[int, typer.Argument(min=1, help="The version to put into production.")],
    metric: Annotated[
        str | None,
        typer.Option(help="The figure of the cards to compare. (default: what production's training chose by)"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it whatever the cards say.")] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Put a version into production if its card is no worse than the present one's.

    A version without the figure, or with a worse one, is refused unless --force.

    \b
        superpos promote sst2 4
        superpos promote sst2 4 --metric macro_f1
        superpos promote sst2 4 --force
    """
    from adapters.errors import AdapterError
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        done = open_source(to, key).promote(task, version, metric, force)
        why = "forced" if done.metric is None else f"no worse by {done.metric}"
        was = "nothing" if done.move.previous is None else done.move.previous
        out.print(f"{task}@production is version {version}, it was {was}; {why}", markup=False)


def _task(place: "Target", task: str) -> "TaskInfo":
    found = next((info for info in place.tasks() if info.task == task), None)
    if found is None:
        raise CommandError(f"no task {task!r} there")
    return found


def _changed(now: "Traffic", canary: int | None, percent: float | None, shadow: int | None) -> "Traffic":
    return replace(
        now,
        canary=now.canary if canary is None else canary,
        percent=now.percent if percent is None else percent,
        shadow=now.shadow if shadow is None else shadow,
    )


def _told(info: "TaskInfo", traffic: "Traffic") -> str:
    production = info.aliases.get("production")
    parts = ["no production version" if production is None else f"production is version {production}"]
    if traffic.canary is not None:
        parts.append(f"version {traffic.canary} gets {traffic.percent:g} % as its canary")
    if traffic.shadow is not None:
        parts.append(f"version {traffic.shadow} is its shadow")
    return f"{info.task}: {', '.join(parts)}"
