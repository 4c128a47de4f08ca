"""Backbone options of the commands, and loading the backbone that they name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
import typer

from cli.console import CommandError, status
from cli.option_group import Command, option_group

if TYPE_CHECKING:
    from backbone import Backbone, Precision
    from training.runs.processes import BackboneSource

PANEL = "Backbone"
AUTO = "auto"
"""As a precision: chosen by the device and the methods."""

DEFAULT_BACKBONE = "embedded"
BackboneOption = Annotated[
    str | None,
    typer.Option(
        envvar="SUPERPOS_BACKBONE",
        rich_help_panel=PANEL,
        help="'embedded', a directory, or a Hugging Face model id such as google/flan-t5-small. (default: embedded)",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(
        envvar="SUPERPOS_REVISION", rich_help_panel=PANEL, help="Branch, tag or commit of the model on the Hub."
    ),
]
OfflineOption = Annotated[
    bool,
    typer.Option(envvar="SUPERPOS_OFFLINE", rich_help_panel=PANEL, help="Use only files that are already on disk."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        envvar="SUPERPOS_CACHE_DIR", rich_help_panel=PANEL, help="Cache directory of the embedded backbone's weights."
    ),
]
DeviceOption = Annotated[
    str, typer.Option(envvar="SUPERPOS_DEVICE", rich_help_panel=PANEL, help="Device: cpu, cuda or cuda:<n>.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="SUPERPOS_THREADS",
        rich_help_panel=PANEL,
        help="Number of CPU threads. (default: PyTorch's choice)",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        rich_help_panel=PANEL,
        help="Precision of the frozen network during training: fp32, or bf16 on CUDA and on CPUs that support it. "
        "The prompt and the final scores are always float32.",
    ),
]
AutoPrecisionOption = Annotated[
    str,
    typer.Option(
        rich_help_panel=PANEL,
        help="Precision of the frozen network during training: fp32, bf16 on CUDA and on CPUs that support it, or "
        "auto: bf16 where it is faster (CUDA, CPUs with AMX or AVX512-BF16), else fp32; always fp32 for heads, full "
        "fine-tuning and the paper's presets. A resumed run keeps its precision. The prompt and the final scores are "
        "always float32.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneOptions:
    """The backbone that a command uses, and where it runs."""

    backbone: str
    cache_dir: Path
    revision: str | None
    offline: bool
    device: str = "cpu"
    threads: int | None = None
    precision: "Precision | None" = "fp32"
    """None for `auto`, which only some commands accept."""
    is_named: bool = True
    """By the user, in an option or the environment, and not by default."""


def backbone_options(
    *more: Literal["device", "threads", "precision", "auto_precision"],
    source: object = BackboneOption,
    device: object = DeviceOption,
) -> Callable[[Command], Command]:
    """Add backbone options to a command, which receives them as `backbone: BackboneOptions`.

    Args:
        more: options besides the source, cache directory, revision and offline mode
        source: annotation of the option or argument that names the backbone
        device: annotation of the device option
    """
    optional: dict[str, tuple[object, object]] = {
        "device": (device, "cpu"),
        "precision": (PrecisionOption, "fp32"),
        "auto_precision": (AutoPrecisionOption, AUTO),
        "threads": (ThreadsOption, None),
    }
    options: dict[str, tuple[object, object]] = {
        "backbone": (source, None),
        **{name.removeprefix("auto_"): option for name, option in optional.items() if name in more},
        "cache_dir": (CacheOption, None),
        "revision": (RevisionOption, None),
        "offline": (OfflineOption, False),
    }
    return option_group("backbone", options, partial(_options, accepts_auto="auto_precision" in more))


def load_backbone(options: BackboneOptions) -> "Backbone":
    """Load the backbone, reporting progress on standard error."""
    from backbone import load
    from service.cores import use_threads

    use_threads(options.threads)
    return load(
        options.backbone,
        cache_dir=options.cache_dir,
        revision=options.revision,
        offline=options.offline,
        device=options.device,
        say=status,
    )


def backbone_source(options: BackboneOptions) -> "BackboneSource":
    """Return the source of the backbone, for training processes that load it themselves."""
    from training.runs.processes import BackboneSource

    return BackboneSource(
        source=options.backbone,
        cache_dir=options.cache_dir,
        revision=options.revision,
        offline=options.offline,
    )


def _options(
    *, backbone: str | None, cache_dir: Path | None, accepts_auto: bool, precision: str = "fp32", **others: Any
) -> BackboneOptions:
    if precision == "fp16":
        raise CommandError("--precision is 'fp16': T5's activations overflow it; expected fp32 or bf16")
    expected = ("fp32", "bf16", AUTO) if accepts_auto else ("fp32", "bf16")
    if precision not in expected:
        raise CommandError(f"--precision is {precision!r}, expected {', '.join(expected[:-1])} or {expected[-1]}")
    return BackboneOptions(
        backbone=backbone or DEFAULT_BACKBONE,
        is_named=backbone is not None,
        cache_dir=cache_dir or platformdirs.user_cache_path("superpos"),
        precision=None if precision == AUTO else "bf16" if precision == "bf16" else "fp32",
        **others,
    )
