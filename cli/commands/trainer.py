"""`superpos trainer`."""

from pathlib import Path
from typing import Annotated

import typer

from cli.backbone_options import PANEL, CacheOption, OfflineOption, RevisionOption, ThreadsOption
from cli.commands.serve import configured
from cli.console import status
from cli.options import read_if_file


def trainer(
    registry: Annotated[
        str | None,
        typer.Option(
            help="Registry of the servers: a SQLite file, or a Redis (redis://…, redis+sentinel://…); @FILE reads the "
            "location from a file."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=PANEL,
            help="The backbone of the servers: 'embedded', a directory, or a Hugging Face model id. "
            "(default: embedded)",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(rich_help_panel=PANEL, help="Device: cpu or cuda. (default: cpu)")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder for the rows and runs of the present job. (default: trainer in the cache directory)"),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="Log format: console or json. (default: console)")] = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    threads: ThreadsOption = None,
) -> None:
    """Train the jobs that clients of the servers ask for, one after the other.

    A trainer needs the servers' registry and backbone, and no server: jobs are in the registry's storage, and results
    are published there, as versions without an alias. Any number of trainers share the jobs. If one dies, another
    continues its job from the last checkpoint.

    Settings are those of the servers, from the environment as SUPERPOS_<NAME>. SIGTERM gives the present job back.

    \b
        superpos trainer
        superpos trainer --registry redis://localhost:6379 --device cuda
    """
    given = {
        "registry": None if registry is None else read_if_file(registry),
        "backbone": backbone,
        "device": device,
        "log_format": log_format,
        "cache_dir": cache_dir,
        "revision": revision,
        "host": "127.0.0.1",  # it does not listen, whatever the servers' settings say
        "offline": offline or None,
        "threads": threads,
    }
    settings = configured(given)
    from trainer.build import build_trainer

    build_trainer(settings, folder=folder or settings.cache_dir / "trainer", say=status).run()
