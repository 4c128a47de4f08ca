"""`superpos traffic | rollback | promote`: which version of a task answers."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.names import PRODUCTION, Ref
from adapters.registry.protocol import NO_TRAFFIC, TaskInfo, Traffic
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import CommandError, err, out
from cli.options import DEFAULT_SERVER, KeyOption, ToOption
from cli.targets.opening import open_target
from cli.targets.target import Target, find_task
from cli.task_files import read_task_file

if TYPE_CHECKING:
    from training.task.task_file import TaskFile

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
        target.set_traffic(task, wanted, info.traffic)
    out.print(described_traffic(info, wanted))


def rollback(
    task: TaskArgument,
    alias: Annotated[str, typer.Option(help="Alias to move; production is the bare task name.")] = "production",
    expected: Annotated[
        int | None,
        typer.Option(
            min=1, help="Version that the alias must point at now. With it, an unconfirmed rollback is safe to repeat."
        ),
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Return an alias to the version that it pointed at before. Run it again to go one version further back.

    A rollback also ends a canary. To end only the canary, use the --off option of the traffic command.

    \b
        superpos rollback sst2
        superpos rollback sst2 --alias best
        superpos rollback sst2 --expected 3
    """
    target = open_target(to, key)
    current = find_task(target, task).aliases.get(alias) if expected is None else expected
    # with the expected version, only one of two concurrent rollbacks moves the alias
    move = target.roll_back(task, alias, current)
    out.print(f"{task}@{alias} is version {move.version}, it was {move.previous}")


@backbone_options("device", "threads")
def promote(
    task: TaskArgument,
    version: Annotated[int, typer.Argument(min=1, help="Version to put into production.")],
    backbone: BackboneOptions,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric of the model cards to compare. (default: the selection metric of production)"),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="TASK.yaml",
            help="Score both versions here on this task's validation rows, or else on the report rows of the version, "
            "and compare those. (default: compare the model cards, which must name the same rows)",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote the version without comparing metrics.")] = False,
    corrections: Annotated[
        bool,
        typer.Option(
            "--corrections",
            help="Also let the server answer the task's latest corrections by both versions: the version must answer "
            "more of them right.",
        ),
    ] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Put a version into production if it is not worse on the same rows than the current one.

    Accuracies are compared row by row: the version is refused if the 95 % interval of their difference is below 0.
    Another metric must not be lower. A version whose card lacks the metric, or names other rows, is refused, too:
    --rows scores both versions on the same rows, and --force promotes the version regardless.

    \b
        superpos promote sst2 4
        superpos promote sst2 4 --metric macro_f1
        superpos promote sst2 4 --rows sst2.yaml
        superpos promote sst2 4 --corrections
        superpos promote sst2 4 --force
    """
    if rows is not None and force:
        raise CommandError("--rows compares and --force does not; use one of them")
    target = open_target(to, key)
    if rows is not None:
        production = find_task(target, task).aliases.get(PRODUCTION)
        if production is None:
            raise CommandError(f"{task} has no production version to compare with; promote it without --rows")
        task_rows = read_task_file(rows)
        paired = compare_here(target, task, (version, production), task_rows, backbone, metric=metric)
        # only if production is still the version that was compared
        done = target.promote(task, version, None, force=True, corrections=corrections, expected=production)
        why = f"compared here: {paired}"
    else:
        done = target.promote(task, version, metric, force=force, corrections=corrections)
        # the server gives the difference as text
        is_lower = done.paired is not None and done.paired.startswith("-")
        found = "is lower, but not shown to be worse" if is_lower else "is not worse"
        why = "forced" if done.metric is None else f"{done.metric} {found}"
        why += f" ({done.paired})" if done.paired else ""
    why += f"; on the corrections {done.corrections}" if done.corrections else ""
    was = "nothing" if done.move.previous is None else done.move.previous
    out.print(f"{task}@production is version {version}, it was {was}; {why}")


def compare_here(
    target: Target,
    task: str,
    versions: tuple[int, int],
    rows: "TaskFile",
    backbone: BackboneOptions,
    *,
    metric: str | None,
) -> str:
    """Score a version and the production version on the same rows, and return the result in words.

    Raises:
        PromotionRefused: the first version is worse than the second
    """
    from adapters.files import from_files
    from adapters.registry.rollouts import check_promotion
    from cli.commands.evaluate import chosen_rows
    from training.data.row_files import RowFiles
    from training.scoring.adapter_answers import adapter_task
    from training.scoring.exam import num_trained_on, scored_on

    candidate, current = (from_files(target.files(Ref(task, version=each))) for each in versions)
    rows = adapter_task(rows, candidate)
    files = RowFiles(rows)
    chosen = chosen_rows(candidate, rows, files, "report" if files.validation is None else "validation")
    for name, adapter in (("version", candidate), ("production", current)):
        if seen := num_trained_on(adapter, files, chosen):
            err.print(f"{seen} of the {len(chosen.examples)} rows trained the {name}", style="yellow")
    loaded = load_backbone(backbone)
    with err.status("scoring both versions"):
        scored = [scored_on(loaded, adapter, rows, chosen) for adapter in (candidate, current)]
    found = check_promotion(*scored, metric=metric)
    return found.in_words or f"{found.metric} is not worse on the same {len(chosen.examples)} rows"


def described_traffic(info: TaskInfo, traffic: Traffic) -> str:
    """Say which versions answer a task's bare name."""
    production = info.aliases.get("production")
    parts = ["no production version" if production is None else f"production is version {production}"]
    if traffic.canary is not None:
        parts.append(f"version {traffic.canary} gets {traffic.percent:g} % as its canary")
    if traffic.shadow is not None:
        parts.append(f"version {traffic.shadow} is its shadow")
    return f"{info.task}: {', '.join(parts)}"
