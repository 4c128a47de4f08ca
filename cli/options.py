"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
