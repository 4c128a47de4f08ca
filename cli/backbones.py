"""Loading a backbone for a command, and `superpos backbone`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import BackboneOption, CacheOption, OfflineOption, RevisionOption
from cli.output import CommandError, one_line_errors, out, say

if TYPE_CHECKING:
    from backbone import Backbone, Precision
    from training.runs.processes import BackboneSource

app = typer.Typer(no_args_is_help=True, help="The frozen model.")


def load_backbone(
    source: str,
    *,
    cache_dir: Path | None,
    revision: str | None,
    offline: bool,
    device: str = "cpu",
    threads: int | None = None,
) -> "Backbone":
    """Load a backbone as a command's options say, telling what is done."""
    import platformdirs
    import torch

    from backbone import load

    if threads is not None:
        torch.set_num_threads(threads)
    cache_dir = cache_dir or platformdirs.user_cache_path("superpos")
    return load(source, cache_dir=cache_dir, revision=revision, offline=offline, device=device, say=say)


def backbone_source(source: str, *, cache_dir: Path | None, revision: str | None, offline: bool) -> "BackboneSource":
    """What a command's options say of the backbone to train on, for processes that load it themselves."""
    import platformdirs

    from training.runs.processes import BackboneSource

    return BackboneSource(
        source=source,
        cache_dir=cache_dir or platformdirs.user_cache_path("superpos"),
        revision=revision,
        offline=offline,
    )


def training_precision(text: str) -> "Precision":
    """What `--precision` of a command that trains says.

    Raises:
        CommandError: a precision that there is none of
    """
    if text == "fp16":
        raise CommandError("--precision is 'fp16': T5's activations overflow it; expected fp32 or bf16")
    if text not in ("fp32", "bf16"):
        raise CommandError(f"--precision is {text!r}, expected fp32 or bf16")
    return "bf16" if text == "bf16" else "fp32"


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

    with one_line_errors(BackboneError):
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

    with one_line_errors(BackboneError):
        backbone = load_backbone(source, cache_dir=cache_dir, revision=revision, offline=offline)
        out.print_json(data=asdict(backbone.identity) | asdict(backbone.architecture))
