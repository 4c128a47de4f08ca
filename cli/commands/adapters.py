"""`superpos push | list | alias | history | export | import`: adapters in folders, registries and servers."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from adapters.adapter import BackboneRef, PromptAdapter
from adapters.files import (
    CONFIG,
    MANIFEST,
    from_files,
    from_peft_files,
    read_folder,
    stated_backbone,
    to_files,
    write_folder,
)
from adapters.names import Ref
from adapters.registry.protocol import Change, Traffic
from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import CommandError, out, print_table
from cli.options import DEFAULT_SERVER, FromOption, KeyOption, ToOption
from cli.targets.opening import open_target
from cli.targets.publish import publish
from cli.task_files import read_task_file
from training.runs.adapter_folder import adapter_files

TaskArgument = Annotated[str, typer.Argument(help="Name of the task that gets the new version.")]
AliasesOption = Annotated[
    list[str] | None,
    typer.Option("--alias", help="Alias to point at the new version; repeatable. (default: production)"),
]
NoAliasOption = Annotated[bool, typer.Option("--no-alias", help="Point no alias at the new version.")]


def push(
    folder: Annotated[
        str,
        typer.Argument(
            help="Folder of an adapter, or of a run that has one; or an adapter's URL (hf://, s3://, file://)."
        ),
    ],
    task: TaskArgument,
    to: ToOption = DEFAULT_SERVER,
    alias: AliasesOption = None,
    no_alias: NoAliasOption = False,
    key: KeyOption = None,
) -> None:
    """Publish a trained adapter as the next version of a task. A running server answers with it at once.

    \b
        superpos push runs/sst2-superpos-seed0 sst2
        superpos push my-adapter sst2 --alias canary --to ./registry.sqlite
        superpos push hf://acme/adapters@v2/sst2 sst2
        superpos push s3://models/sst2#sha256:9f86d081884c7d65… sst2

    A URL may name a revision of a repository on the Hub, and after # the digest that the adapter must have.
    Credentials are read from the environment, as the Hub's and AWS' own tools read them. s3:// needs the extra s3.
    """
    files = _read(folder, adapter_files)
    publish(open_target(to, key, create=True), task, files, _aliases(alias, no_alias))


def list_tasks(source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List tasks with their versions, aliases, canary and shadow.

    \b
        superpos list
        superpos list --from ./registry.sqlite
    """
    table = Table("task", "version", "answers as", "adapter", "published", "by")
    for info in open_target(source, key).tasks():
        for version in info.versions:
            names = sorted(name for name, at in info.aliases.items() if at == version.version)
            names += _roles(info.traffic, version.version)
            published = version.created_at.strftime("%Y-%m-%d %H:%M")
            number, digest = str(version.version), version.digest[:19]
            table.add_row(info.task, number, ", ".join(names), digest, published, version.actor)
    print_table(table)


def alias(
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Alias to move; production is the bare task name.")],
    version: Annotated[int, typer.Argument(help="Version that it shall point at.")],
    expected: Annotated[int | None, typer.Option(help="Move the alias only if it points at this version now.")] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Point an alias at a version.

    \b
        superpos alias sst2 production 3
        superpos alias sst2 production 2 --expected 3
    """
    open_target(to, key).set_alias(task, name, version, expected)
    out.print(f"{task}@{name} is version {version}")


def history(
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    last: Annotated[int, typer.Option(min=1, max=100_000, help="Number of entries to show, newest last.")] = 100,
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Show who changed a task, and when: its versions, aliases, canary and shadow.

    \b
        superpos history sst2
        superpos history sst2 --last 10 --from ./registry.sqlite
    """
    table = Table("when (UTC)", "by", "what", "version", "adapter")
    for change in deque(open_target(source, key).history(task), maxlen=last):
        at = change.at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(at, change.actor, _described(change), str(change.version or ""), change.digest[:19])
    print_table(table)


def export(
    ref: Annotated[str, typer.Argument(help="task, task@3, task@alias or task@sha256:…")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; must be empty or not exist.")],
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Write an adapter as a PEFT folder, which `PeftModel.from_pretrained` loads.

    \b
        superpos export sst2@3 ./sst2-v3
    """
    if folder.exists() and any(folder.iterdir()):
        raise CommandError(f"{folder} is not empty; name a folder that does not exist yet")
    files = open_target(source, key).files(Ref.parse(ref))
    write_folder(folder, files)
    out.print(f"{folder}: {ref}, {from_files(files).digest}")


@backbone_options()
def import_folder(
    folder: Annotated[
        str,
        typer.Argument(
            help="PEFT prompt-tuning folder, from 'superpos export' or from PEFT; or its URL (hf://, s3://, file://)."
        ),
    ],
    task: TaskArgument,
    backbone: BackboneOptions,
    task_file: Annotated[
        Path | None,
        typer.Option("--task-file", help="Template and labels, for a folder without superpos.json."),
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    alias: AliasesOption = None,
    no_alias: NoAliasOption = False,
    key: KeyOption = None,
) -> None:
    """Publish a PEFT prompt-tuning folder. An exported folder keeps its digest; one from PEFT needs a task file.

    The prompt must be of the given backbone: the folder's files name it, and an exported folder has its fingerprint.

    \b
        superpos import ./sst2-v3 sst2
        superpos import ./peft-run sst2 --task-file sst2.yaml --backbone google/flan-t5-small
        superpos import hf://acme/peft-run sst2 --task-file sst2.yaml --backbone google/flan-t5-small
    """
    files = _read(folder, read_folder)
    if MANIFEST in files:
        _check_exported(folder, from_files(files), task_file, backbone)
    else:
        files = _from_peft(folder, files, task_file, backbone)
    publish(open_target(to, key, create=True), task, files, _aliases(alias, no_alias))


def _read(location: str, read_path: Callable[[Path], dict[str, bytes]]) -> dict[str, bytes]:
    """Read an adapter's files from a URL, or from a path with `read_path`."""
    if "://" not in location:
        return read_path(Path(location))
    from adapters.remote import AdapterUrl

    return AdapterUrl.parse(location).read()


def _check_exported(folder: str, adapter: PromptAdapter, task_file: Path | None, backbone: BackboneOptions) -> None:
    """Refuse a task file or a backbone that contradicts the folder's `superpos.json`."""
    if task_file is not None and read_task_file(task_file).spec != adapter.spec:
        raise CommandError(
            f"{folder} has its own template and labels in {MANIFEST}, which are not those of {task_file}; "
            "import it without --task-file"
        )
    if backbone.is_named and backbone.backbone != adapter.manifest.backbone.id:
        loaded = load_backbone(backbone)
        adapter.check_backbone(fingerprint=loaded.identity.fingerprint, width=loaded.width)


def _from_peft(
    folder: str, files: Mapping[str, bytes], task_file: Path | None, backbone: BackboneOptions
) -> dict[str, bytes]:
    """Make an adapter of a folder that PEFT wrote, for the backbone that the folder names."""
    if task_file is None:
        raise CommandError(f"{folder} has no {MANIFEST}: give the template and labels with --task-file")
    spec = read_task_file(task_file).spec
    loaded = load_backbone(backbone)
    adapter = from_peft_files(files, task=spec, backbone=BackboneRef(**asdict(loaded.identity)))
    adapter.check_backbone(fingerprint=loaded.identity.fingerprint, width=loaded.width)
    name, revision = stated_backbone(files)
    if name is not None and not _is_same_source(name, backbone.backbone):
        raise CommandError(
            f"{folder} says that its prompt was trained for {name!r}, and the backbone is {backbone.backbone!r}; "
            "name the prompt's own with --backbone, or, if that is the same model, write its name into "
            f"{CONFIG} in it"
        )
    if revision not in (None, loaded.identity.revision, backbone.revision or "main"):
        raise CommandError(
            f"{folder} says that its prompt was trained for revision {revision!r} of {name!r}, and the backbone's is "
            f"{loaded.identity.revision!r}; name the prompt's own with --revision, or, if that is the same model, "
            f"set the revision in its {CONFIG} to null"
        )
    return to_files(adapter)


def _is_same_source(stated: object, given: str) -> bool:
    """Return whether two names are equal, or lead to one folder of this machine."""
    if not isinstance(stated, str) or stated == given:
        return stated == given
    return Path(stated).is_dir() and Path(given).is_dir() and Path(stated).samefile(given)


def _aliases(alias: list[str] | None, no_alias: bool) -> list[str] | None:
    if alias and no_alias:
        raise CommandError("--alias and --no-alias cannot be combined")
    return [] if no_alias else alias


def _roles(traffic: Traffic, version: int) -> list[str]:
    roles = [f"(canary {traffic.percent:g} %)"] if traffic.canary == version else []
    return [*roles, "(shadow)"] if traffic.shadow == version else roles


def _described(change: Change) -> str:
    match change.kind:
        case "alias_set":
            return f"alias {change.alias} set"
        case "alias_deleted":
            return f"alias {change.alias} removed"
        case "version_deleted":
            return "deleted"
        case "published":
            return "published"
        case "traffic_set":
            return _described_traffic(change.traffic)
        case "log_trimmed":
            return "older entries removed"


def _described_traffic(traffic: Traffic | None) -> str:
    parts = [] if traffic is None or traffic.canary is None else [f"canary {traffic.canary} gets {traffic.percent:g} %"]
    parts += [] if traffic is None or traffic.shadow is None else [f"shadow {traffic.shadow}"]
    return ", ".join(parts) or "canary and shadow ended"
