"""TODO."""

from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import CommandError, status

if TYPE_CHECKING:
    from backbone import Backbone, Precision
    from training.runs.processes import BackboneSource


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
    return load(source, cache_dir=cache_dir, revision=revision, offline=offline, device=device, say=status)


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
