"""`superpos push | list | alias | export | import`: adapters between folders, registries and servers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.backbone_options import load_backbone
from cli.console import CommandError, out, print_table, report_errors
from cli.options import (
    DEFAULT_SERVER,
    BackboneOption,
    CacheOption,
    FromOption,
    KeyOption,
    OfflineOption,
    RevisionOption,
    ToOption,
)

if TYPE_CHECKING:
    from adapters.registry.protocol import Traffic

AliasesOption = Annotated[
    list[str] | None,
    typer.Option("--alias", help="Alias to point at the new version; may be repeated. (default: production)"),
]
NoAliasOption = Annotated[bool, typer.Option("--no-alias", help="Point no alias at the new version.")]


def push(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, or a run's folder with one in it.")],
    task: Annotated[str, typer.Argument(help="The task that gets the new version.")],
    to: ToOption = DEFAULT_SERVER,
    alias: AliasesOption = None,
    no_alias: NoAliasOption = False,
    key: KeyOption = None,
) -> None:
    """Publish a trained adapter as a task's next version. A running server answers with it at once.

    \b
        superpos push runs/sst2-superpos-seed0 sst2
        superpos push my-adapter sst2 --alias canary --to ./registry.sqlite
    """
    from adapters.errors import AdapterError
    from training.runs.adapter_folder import adapter_files

    with report_errors(AdapterError):
        _publish(adapter_files(folder), task, to, alias, no_alias, key)


def list_tasks(source: FromOption = DEFAULT_SERVER, key: KeyOption = None) -> None:
    """List tasks with their versions, aliases, canary and shadow.

    \b
        superpos list
        superpos list --from ./registry.sqlite
    """
    from adapters.errors import AdapterError
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        table = Table("task", "version", "answers as", "adapter", "published", "by")
        for info in open_source(source, key).tasks():
            for version in info.versions:
                names = sorted(name for name, at in info.aliases.items() if at == version.version)
                names += _roles(info.traffic, version.version)
                published = version.created_at.strftime("%Y-%m-%d %H:%M")
                row = (
                    str(version.version),
                    ", ".join(names),
                    version.digest[:19],
                    published,
                    version.actor,
                )
                table.add_row(info.task, *row)
        print_table(table)


def _roles(traffic: "Traffic", version: int) -> list[str]:
    """What a version does for the bare name beside production."""
    roles = [f"(canary {traffic.percent:g} %)"] if traffic.canary == version else []
    return [*roles, "(shadow)"] if traffic.shadow == version else roles


def alias(
    task: Annotated[str, typer.Argument(help="The task.")],
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias to point; production is the bare task name.")],
    version: Annotated[int, typer.Argument(help="The version it shall point at.")],
    expected: Annotated[
        int | None, typer.Option(help="Move it only if it points at this version now, else refuse.")
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Point an alias at a version: release it, or roll back.

    \b
        superpos alias sst2 production 3
        superpos alias sst2 production 2 --expected 3
    """
    from adapters.errors import AdapterError
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        open_source(to, key).set_alias(task, name, version, expected)
        out.print(f"{task}@{name} is version {version}", markup=False)


def export(
    ref: Annotated[str, typer.Argument(help="task, task@3, task@alias or task@sha256:…")],
    folder: Annotated[Path, typer.Argument(help="The folder to write; must not exist, or be empty.")],
    source: FromOption = DEFAULT_SERVER,
    key: KeyOption = None,
) -> None:
    """Write an adapter as a PEFT folder that `PeftModel.from_pretrained` loads.

    \b
        superpos export sst2@3 ./sst2-v3
    """
    from adapters.errors import AdapterError
    from adapters.files import from_files, write_folder
    from adapters.names import Ref
    from cli.client.targets import open_source

    with report_errors(AdapterError):
        if folder.exists() and any(folder.iterdir()):
            raise CommandError(f"{folder} is not empty; name a folder that does not exist yet")
        files = open_source(source, key).files(Ref.parse(ref))
        write_folder(folder, files)
        out.print(f"{folder}: {ref}, {from_files(files).digest}", markup=False)


def import_folder(
    folder: Annotated[Path, typer.Argument(help="A PEFT prompt-tuning folder, exported by us or made by PEFT.")],
    task: Annotated[str, typer.Argument(help="The task that gets the new version.")],
    task_file: Annotated[
        Path | None,
        typer.Option("--task-file", help="Template and labels, for a folder of PEFT's that has no superpos.json."),
    ] = None,
    to: ToOption = DEFAULT_SERVER,
    alias: AliasesOption = None,
    no_alias: NoAliasOption = False,
    key: KeyOption = None,
    backbone: BackboneOption = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Publish a PEFT prompt-tuning folder. One of ours keeps its digest; a foreign one needs its task's file.

    A foreign prompt is taken to have been trained on the backbone that you name: PEFT does not record which.

    \b
        superpos import ./sst2-v3 sst2
        superpos import ./peft-run sst2 --task-file sst2.yaml --backbone google/flan-t5-small
    """
    from dataclasses import asdict

    from adapters.adapter import BackboneRef
    from adapters.errors import AdapterError
    from adapters.files import MANIFEST, from_peft_files, read_folder, to_files
    from cli.commands.train import read_task_file
    from training.errors import TrainingError

    with report_errors(AdapterError, TrainingError):
        files = read_folder(folder)
        if MANIFEST not in files:
            if task_file is None:
                raise CommandError(f"{folder} has no {MANIFEST}: give the task's template and labels by --task-file")
            from backbone import BackboneError

            with report_errors(BackboneError):
                loaded = load_backbone(backbone, cache_dir=cache_dir, revision=revision, offline=offline)
            adapter = from_peft_files(
                files, task=read_task_file(task_file).spec, backbone=BackboneRef(**asdict(loaded.identity))
            )
            adapter.check_backbone(fingerprint=loaded.identity.fingerprint, width=loaded.width)
            files = to_files(adapter)
        _publish(files, task, to, alias, no_alias, key)


def _publish(
    files: dict[str, bytes], task: str, to: str, alias: list[str] | None, no_alias: bool, key: str | None
) -> None:
    from cli.client.publish import publish
    from cli.client.targets import open_target

    if alias and no_alias:
        raise CommandError("--alias and --no-alias contradict each other")
    publish(open_target(to, key), task, files, [] if no_alias else alias)
