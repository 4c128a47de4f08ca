"""The options of `superpos train` that say how a prompt is parameterised."""

from typing import Annotated

import typer

from training.choices import Basis, MethodName, TokenSampling, WeightsInit

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
