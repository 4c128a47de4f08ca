"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_table
from training.config.choices import Basis, MethodName, TokenSampling, WeightsInit

DEFAULT_SERVER = "http://127.0.0.1:8080"

BackboneOption = Annotated[
    str,
    typer.Option(
        envvar="SUPERPOS_BACKBONE", help="'embedded', a directory, or a Hugging Face id such as google/flan-t5-small."
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option(envvar="SUPERPOS_REVISION", help="Hub branch, tag or commit of the backbone.")
]
OfflineOption = Annotated[
    bool, typer.Option(envvar="SUPERPOS_OFFLINE", help="Use only what is on this machine already.")
]
DeviceOption = Annotated[str, typer.Option(envvar="SUPERPOS_DEVICE", help="'cpu' or 'cuda'.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(envvar="SUPERPOS_CACHE_DIR", help="Where the embedded backbone's weights are kept."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="Of the frozen network while it trains: fp32; bf16 on CUDA, or a CPU that has it. The prompt, and what is "
        "scored of it in the end, stay in float32."
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, envvar="SUPERPOS_THREADS", help="CPU threads; PyTorch's choice if left out.")
]
ServerOption = Annotated[str, typer.Option(envvar="SUPERPOS_SERVER", help="The server's address.")]
_PLACE = "A server's address (http://…), a SQLite registry's path, or Redis (redis://…)."
ToOption = Annotated[str, typer.Option("--to", envvar="SUPERPOS_SERVER", help=_PLACE)]
FromOption = Annotated[str, typer.Option("--from", envvar="SUPERPOS_SERVER", help=_PLACE)]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", envvar="SUPERPOS_API_KEY", help="Key for a server that asks for one; the environment keeps it secret."
    ),
]


MethodOption = Annotated[
    MethodName | None,
    typer.Option(help="How the prompt is parameterised. (default: superpos)", rich_help_panel="Method"),
]
BasisOption = Annotated[
    Basis | None,
    typer.Option(help="superpos, mixture: a basis for each prompt vector, or one for all.", rich_help_panel="Method"),
]
SoftmaxOption = Annotated[
    bool | None,
    typer.Option(help="superpos, mixture: a softmax over p′, the paper's ablation.", rich_help_panel="Method"),
]
WeightsInitOption = Annotated[
    WeightsInit | None,
    typer.Option(help="superpos, mixture: how p′ starts. (default: normal)", rich_help_panel="Method"),
]
TokenSamplingOption = Annotated[
    TokenSampling | None,
    typer.Option(help="Start from any token, or from the common ones.", rich_help_panel="Method"),
]
NumVirtualTokensOption = Annotated[
    int | None, typer.Option(help="P, the prompt's length. (default: 10)", rich_help_panel="Method")
]
NumSampledTokensOption = Annotated[
    int | None,
    typer.Option(help="superpos: m, the token embeddings superposed. (default: 128)", rich_help_panel="Method"),
]
BottleneckOption = Annotated[
    int | None,
    typer.Option(help="residual, attempt: the small network's middle. (default: 128)", rich_help_panel="Method"),
]
RankOption = Annotated[
    int | None, typer.Option(help="dpt: the rank of the prompt. (default: 8)", rich_help_panel="Method")
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        help="spot, mixture, attempt: the folder of an adapter to start from; repeatable.", rich_help_panel="Method"
    ),
]
DropoutOption = Annotated[
    bool | None,
    typer.Option(help="Let the frozen network drop out in training. (default: no)", rich_help_panel="Method"),
]


def _list(name: str | None) -> str | None:
    if name != "help":
        return name
    from rich.table import Table

    from training.config.presets import PRESETS

    table = Table("preset", "values", "source")
    for preset, recipe in PRESETS.items():
        values = ", ".join(f"{field} {value}" for field, value in recipe.values.items())
        table.add_row(preset, values, recipe.source)
    print_table(table)
    raise typer.Exit


PresetOption = Annotated[
    str | None,
    typer.Option(
        callback=_list,
        is_eager=True,
        rich_help_panel="Method",
        help="A recipe to start from, such as paper/superpos, lester/simple or fast; other options win over it. "
        "'--preset help' lists them.",
    ),
]
