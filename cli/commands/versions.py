"""`superpos show | delete`: one task with its versions."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from adapters.baselines import TITLES, read_baselines, verdict
from adapters.calibration import read_promise
from adapters.names import Ref
from adapters.registry.protocol import NO_TRAFFIC, TaskInfo
from cli.commands.rollout import described_traffic
from cli.console import CommandError, err, out, print_table
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption
from cli.targets.opening import open_target
from cli.targets.target import Target, find_task


def show(
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show a task: versions, traffic, scores, shadow agreement and drift.

    Scores, their baselines and the promise of an abstain threshold are those of training, of the latest version and
    those that an alias, a canary or a shadow uses.
    A registry has no traffic of its own, so shadow and drift are shown by a server only.

    \b
        superpos show sst2
        superpos show sst2 --from ./registry.sqlite
    """
    target = open_target(source, key)
    info = find_task(target, task)
    table = Table("version", "aliases", "adapter", "published (UTC)", "by", title=task)
    for version in info.versions:
        aliases = sorted(name for name, at in info.aliases.items() if at == version.version)
        published = version.created_at.strftime("%Y-%m-%d %H:%M")
        table.add_row(str(version.version), ", ".join(aliases), version.digest[:19], published, version.actor)
    print_table(table)
    out.print(described_traffic(info, info.traffic))
    _print_scores(target, info)
    observed = target.observed(task)
    if observed is not None:
        for line in (*map(_shadow, observed["shadows"]), _drift(observed["drift"])):
            out.print(line)


def _print_scores(target: Target, info: TaskInfo) -> None:
    """Print what the latest version and those in use scored on their report rows, their baselines, and promises."""
    table = Table("version", "measure", "score", *TITLES.values(), title=f"{info.task}, report rows of each version")
    notes = []
    latest = [each.version for each in info.versions[-1:]]
    routed = [each for each in (info.traffic.canary, info.traffic.shadow) if each]
    for number in sorted({*latest, *info.aliases.values(), *routed}):
        provenance = target.provenance(info.task, number)
        if promise := read_promise(provenance.metrics):
            notes.append(f"version {number}: answers above its abstain threshold have {promise}")
        measure = str(provenance.hyperparameters.get("metric", "accuracy"))
        score = provenance.metrics.get(f"report_{measure}")
        if score is None:
            continue
        baselines = {each.name: each for each in read_baselines(provenance.metrics)}
        cells = [f"{baselines[name].figures['score']:.3f}" if name in baselines else "" for name in TITLES]
        table.add_row(str(number), measure.replace("_", " "), f"{score:.3f}", *cells)
        if told := verdict(list(baselines.values())):
            notes.append(f"version {number}: {told}")
    if table.row_count:
        print_table(table)
    for line in notes:
        out.print(line)


def delete(
    ref: Annotated[str, typer.Argument(metavar="TASK[@VERSION]", help="A version, or a task with all its versions.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Delete a version, or a task with its aliases and traffic. It asks before; a deletion cannot be undone.

    A version that an alias, a canary or a shadow uses is refused. Numbers of deleted versions are not used again.

    \b
        superpos delete sst2@3
        superpos delete sst2 --yes
    """
    name, _, number = ref.partition("@")
    version = Ref.parse(ref).version if number else None
    if number and version is None:
        raise CommandError(f"cannot delete {ref!r}, expected a task (sst2) or a version by its number (sst2@3)")
    target = open_target(to, key)
    info = find_task(target, name)
    if version is not None:
        info.resolve(Ref(name, version=version))
        _ask(f"delete version {version} of {name}?", yes=yes)
        target.delete_version(name, version)
        out.print(f"{name}@{version} deleted")
        return
    aliases = ", ".join(sorted(info.aliases)) or "none"
    _ask(f"delete {name} with its {len(info.versions)} versions (aliases: {aliases})?", yes=yes)
    _delete_task(target, info)
    out.print(f"{name} deleted, with {len(info.versions)} versions")


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    err.print(question)
    try:
        answer = input()
    except EOFError as exc:
        raise CommandError("the question got no answer, nothing was deleted; --yes deletes without asking") from exc
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("nothing was deleted; to delete, answer 'yes' or use --yes")


def _delete_task(target: Target, info: TaskInfo) -> None:
    """Delete what uses the versions, then the versions; a second run completes an interrupted one.

    Stops if another user has changed the task meanwhile, since this user did not confirm the deletion of that change.
    """
    if info.traffic != NO_TRAFFIC:
        target.set_traffic(info.task, NO_TRAFFIC, info.traffic)
    for alias in info.aliases:
        target.delete_alias(info, alias)
    for version in info.versions:
        target.delete_version(info.task, version.version)


def _shadow(report: Mapping[str, Any]) -> str:
    pair = f"shadow {report['shadow']} next to {report['primary']}"
    if report["agreement"] is None:
        return f"{pair}: no rows compared yet"
    missed = f", {report['dropped']} not compared, {report['failed']} failed"
    return f"{pair}: the same label on {100 * report['agreement']:.1f} % of {report['rows']} rows{missed}"


def _drift(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "drift: unknown; production records no profile of its predictions"
    if report["label_psi"] is None or report["confidence_psi"] is None:
        rows, least = report["rows"], report["min_rows"]
        too_few = "too few" if rows < least else "but too few in the version's validation profile"
        return f"drift: {rows} rows in the last hour, {too_few} for a verdict (at least {least})"
    indices = (
        f"population stability index {report['label_psi']:.3f} of labels, {report['confidence_psi']:.3f} of scores"
    )
    return f"drift: {report['verdict']}, {indices}, {report['rows']} rows in the last hour"
