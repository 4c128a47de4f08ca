"""The rows of the paper's tables and of its ablations: each a method with its hyperparameters, under a name.

Hyperparameters are the paper's (§3.4). Two things of ours stand beside them: simple prompt tuning at larger rates, with
Lester et al.'s weight decay, since the paper's 0.01 hardly moves a prompt; and SuperPos with one basis for all tokens.
"""

from dataclasses import dataclass, replace

from training.arguments import TrainArguments
from training.errors import InvalidArguments

SAMPLED_TOKENS = (8, 16, 32, 64, 128, 256)
"""m of the ablation (Figure 2c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of a table; its arguments' seed stands for every seed."""

    name: str
    """Names its runs' folders and, in `--methods`, itself."""
    title: str
    arguments: TrainArguments


_SIMPLE_RATES = (0.1, 0.3, 1.0)


def variants() -> dict[str, Variant]:
    """Every variant by its name, in the order of the tables."""
    superpos = TrainArguments(method="superpos", lr=0.01, weight_decay=1e-5)
    simple = TrainArguments(method="simple", lr=0.01, weight_decay=0.01)
    listed = [
        Variant(name="simple", title="Simple PT", arguments=simple),
        *(
            Variant(name=f"simple-lr{lr:g}", title="Simple PT", arguments=replace(simple, lr=lr, weight_decay=1e-5))
            for lr in _SIMPLE_RATES
        ),
        Variant(name="superpos", title="SuperPos PT", arguments=superpos),
        Variant(name="superpos-shared", title="SuperPos PT, shared E", arguments=replace(superpos, basis="shared")),
        *(
            Variant(
                name=f"superpos-m{m}", title=f"SuperPos PT, m = {m}", arguments=replace(superpos, num_sampled_tokens=m)
            )
            for m in SAMPLED_TOKENS
            if m != superpos.num_sampled_tokens
        ),
    ]
    return {each.name: each for each in listed}


def variant(name: str) -> Variant:
    """The variant of a name.

    Raises:
        InvalidArguments: no variant has it; says which names there are
    """
    known = variants()
    if name not in known:
        raise InvalidArguments(f"method {name!r} is none of the paper's, expected one of {', '.join(known)}")
    return known[name]
