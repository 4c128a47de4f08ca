"""Loading a backbone for a command, and `superpos backbone`."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.backbone_options import load_backbone
from cli.console import out, report_errors
from cli.options import BackboneOption, CacheOption, OfflineOption, RevisionOption

if TYPE_CHECKING:
    pass


app = typer.Typer(no_args_is_help=True, help="The frozen model.")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="'embedded', a directory, or a Hugging Face id.")] = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Convert or download a backbone now, so that the first start is quick.

    Example: superpos backbone prepare embedded
    """
    from backbone import BackboneError

    with report_errors(BackboneError):
        identity = load_backbone(source, cache_dir=cache_dir, revision=revision, offline=offline).identity
        out.print(f"{identity.id} {identity.revision} {identity.fingerprint}", markup=False)


@app.command()
def show(
    source: BackboneOption = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Print a backbone's identity and dimensions as JSON.

    Example: superpos backbone show --source google/flan-t5-base
    """
    from dataclasses import asdict

    from backbone import BackboneError

    with report_errors(BackboneError):
        backbone = load_backbone(source, cache_dir=cache_dir, revision=revision, offline=offline)
        out.print_json(data=asdict(backbone.identity) | asdict(backbone.architecture))
