"""The words that a training run chooses by; the command line reads them before anything slow is imported."""

from typing import Literal

MethodName = Literal["superpos", "simple", "residual", "dpt", "spot", "mixture", "attempt", "full"]

WITHOUT_ADAPTER: dict[MethodName, str] = {
    "attempt": "its prompt is another for every input",
    "full": "it trains a model of its own instead of a prompt",
}
"""The methods that do not collapse to a prompt, and why: they are trained and measured, never exported."""

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
