"""The closed sets of values that a training run chooses from. Imported by the command line, so it stays light."""

from typing import Literal

MethodName = Literal[
    "superpos",
    "simple",
    "residual",
    "dpt",
    "spot",
    "mixture",
    "mpt",
    "ipt",
    "panda",
    "attempt",
    "full",
    "lora",
    "houlsby",
    "one_shot",
    "head",
]

WITHOUT_ADAPTER: dict[MethodName, str] = {
    "attempt": "its prompt differs for every input",
    "full": "it trains a model of its own instead of a prompt",
    "lora": "it trains weights inside the network instead of a prompt",
    "houlsby": "it trains weights inside the network instead of a prompt",
    "one_shot": "it trains nothing, and reads examples before every text",
}
"""The methods that do not collapse to a prompt, and why. They are trained and measured, but never exported."""

OWN_MODEL: frozenset[MethodName] = frozenset({"full", "lora", "houlsby"})
"""The baselines that train a network of their own, alone and in float32."""

Basis = Literal["per_token", "shared"]
"""superpos, mixture: a copy of E for each prompt vector, or one copy shared by all of them."""

WeightsInit = Literal["normal", "uniform", "zeros"]
"""superpos, mixture: the distribution that p′ is initialised from."""

TokenSampling = Literal["vocabulary", "common"]
"""`vocabulary`: any ordinary piece (the paper's); `common`: one of the most frequent (Lester et al. 2021, §3.2)."""

ReadoutInit = Literal["fitted", "words"]
"""`fitted`: logistic regression under the initial prompt; `words`: the label words' vectors for soft, else zeros."""

Schedule = Literal["constant", "linear"]
"""`constant`: the same learning rate at every step; `linear`: it falls to zero over the steps."""

LossName = Literal["labels", "full"]
"""`labels`: the served distribution over the label trie; `full`: the paper's cross-entropy over the vocabulary."""

Sampling = Literal["shuffled", "balanced"]
"""`shuffled`: every row once per epoch; `balanced`: every label equally often."""

Calibrate = Literal["auto", "always", "never"]
"""Whether to fit a temperature; `auto`: unless serving searches many label words, which a temperature forbids."""

Protocol = Literal["constrained", "greedy"]
"""`constrained`: the served answer, always a label; `greedy`: the text of free generation, the paper's protocol."""

InvalidPolicy = Literal["wrong", "zero_run"]
"""greedy: generated text that is not a label counts as wrong, or makes the whole run score 0 (the paper's †)."""
