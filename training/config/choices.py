"""The words that a training run chooses by; the command line reads them before anything slow is imported."""

from typing import Literal

MethodName = Literal["superpos", "simple", "residual", "dpt", "spot", "mixture", "attempt", "full"]

WITHOUT_ADAPTER: dict[MethodName, str] = {
    "attempt": "its prompt is another for every input",
    "full": "it trains a model of its own instead of a prompt",
}
"""The methods that do not collapse to a prompt, and why: they are trained and measured, never exported."""

_SUPERPOSES = frozenset({"basis", "softmax", "weights_init"})
ARGUMENTS_OF: dict[MethodName, frozenset[str]] = {
    "superpos": _SUPERPOSES | {"num_sampled_tokens", "token_sampling"},
    "simple": frozenset({"token_sampling"}),
    "residual": frozenset({"token_sampling", "bottleneck"}),
    "dpt": frozenset({"rank"}),
    "spot": frozenset({"sources"}),
    "mixture": _SUPERPOSES | {"sources"},
    "attempt": frozenset({"token_sampling", "bottleneck", "sources"}),
    "full": frozenset(),
}
"""Of the arguments that some methods alone have a use for, those of each method."""


def unused_arguments(method: MethodName) -> frozenset[str]:
    """The arguments that a method has no use for."""
    return frozenset().union(*ARGUMENTS_OF.values()) - ARGUMENTS_OF[method]


Basis = Literal["per_token", "shared"]
"""superpos, mixture: a copy of E for each prompt vector, or one for all."""

WeightsInit = Literal["normal", "uniform", "zeros"]
"""superpos, mixture: how p′ starts."""

TokenSampling = Literal["vocabulary", "common"]
"""`vocabulary`: any ordinary piece (the paper's); `common`: one of the most frequent (Lester et al. 2021, §3.2)."""

LossName = Literal["labels", "full"]
"""`labels`: the served distribution over the label trie; `full`: the paper's cross-entropy over the vocabulary."""

Sampling = Literal["shuffled", "balanced"]
"""`shuffled`: every row once an epoch; `balanced`: every label equally often."""

Calibrate = Literal["auto", "always", "never"]
"""Whether a temperature is fitted; `auto`: unless a task has so many labels that serving would lose its search."""

Protocol = Literal["constrained", "greedy"]
"""`constrained`: the served answer, always a label; `greedy`: what free generation says, the paper's protocol."""

InvalidPolicy = Literal["wrong", "zero_run"]
"""greedy: words that are no label count as wrong, or make the run worth 0 (the paper's †)."""
