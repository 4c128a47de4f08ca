"""`superpos backbone`: prepare or inspect the frozen model."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.backbone_options import BackboneOptions, backbone_options, load_backbone
from cli.console import out

app = typer.Typer(no_args_is_help=True, help="Prepare or inspect the frozen model.")

_SOURCE_HELP = "'embedded', a directory, or a Hugging Face model id. (default: embedded)"
SourceArgument = Annotated[str | None, typer.Argument(metavar="SOURCE", help=_SOURCE_HELP)]
SourceOption = Annotated[
    str | None, typer.Option("--source", "--backbone", envvar="SUPERPOS_BACKBONE", help=_SOURCE_HELP)
]


@app.command()
@backbone_options(source=SourceArgument)
def prepare(backbone: BackboneOptions) -> None:
    """Convert or download a backbone now, so that the first start is fast.

    \b
        superpos backbone prepare embedded
    """
    identity = load_backbone(backbone).identity
    out.print(f"{identity.id} {identity.revision} {identity.fingerprint}")


@app.command()
@backbone_options(source=SourceOption)
def show(backbone: BackboneOptions) -> None:
    """Print a backbone's identity and dimensions as JSON.

    \b
        superpos backbone show --source google/flan-t5-base
    """
    loaded = load_backbone(backbone)
    out.print_data(asdict(loaded.identity) | asdict(loaded.architecture))
