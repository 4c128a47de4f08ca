"""The rows of the paper's tables and of its ablations: each a method with its hyperparameters, under a name.

Hyperparameters are the paper's (§3.4). Ours: simple prompt tuning at larger rates with Lester et al.'s weight decay,
since the paper's 0.01 hardly moves a prompt; SuperPos at larger rates too; SuperPos with one basis for all tokens; the
ways in which p′ may start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from training.config.arguments import TrainArguments
from training.config.choices import Basis, WeightsInit
from training.errors import InvalidArguments

SAMPLED_TOKENS = (8, 16, 32, 64, 128, 256)
"""m of the ablation (Figure 2c)."""

ANY_SOURCES = ("",)
"""For a variant's name and title, which its sources do not change."""

_SIMPLE_RATES = (0.1, 0.3, 1.0)
SWEPT_SIMPLE = ("simple", *(f"simple-lr{lr:g}" for lr in _SIMPLE_RATES))
"""Simple prompt tuning without dropout, over the rates that it is swept over."""

TABLE1 = (
    *("simple-dropout", *SWEPT_SIMPLE, "attempt", "residual-dropout", "residual"),
    *("superpos-dropout", "superpos", "superpos-shared", "full"),
)
TABLE2 = tuple(name for name in TABLE1 if name != "attempt")
"""The paper leaves ATTEMPT out of the standardised score."""
TABLE3 = ("superpos", "superpos-softmax")

DROPOUT_CURVES = ("superpos", "superpos-dropout")
"""Figure 2a."""
OTHERS_DROPOUT_CURVES = ("simple-lr0.3", "simple-lr0.3-dropout", "residual", "residual-dropout")
METHOD_CURVES = ("superpos", "superpos-shared", *SWEPT_SIMPLE, "residual")
"""Figure 2b."""
_INITS: tuple[WeightsInit, ...] = ("normal", "uniform", "zeros")
_BASES: tuple[Basis, ...] = ("per_token", "shared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of a table; its arguments' seed stands for every seed."""

    name: str
    """Names its runs' folders and, in `--methods`, itself."""
    title: str
    arguments: TrainArguments


def sampled(m: int) -> str:
    """The name of SuperPos with m sampled tokens."""
    return "superpos" if m == 128 else f"superpos-m{m}"


def started(basis: Basis, init: WeightsInit) -> str:
    """The name of SuperPos with this basis, whose p′ starts so."""
    return "superpos" + ("-shared" if basis == "shared" else "") + ("" if init == "normal" else f"-{init}")


STARTS = {(basis, init): started(basis, init) for basis in _BASES for init in _INITS}
SUPERPOS_RATES = {0.01: "superpos", **{lr: f"superpos-lr{lr:g}" for lr in (0.03, 0.1, 0.3)}}
"""SuperPos over the rates that it is swept over, by name."""
ABLATED = frozenset((*map(sampled, SAMPLED_TOKENS), *STARTS.values(), *SUPERPOS_RATES.values())) - {
    "superpos",
    "superpos-shared",
}
"""Variants that change one thing of SuperPos which no table of the paper changes."""
FIGURE2 = tuple(
    dict.fromkeys(
        chain(DROPOUT_CURVES, OTHERS_DROPOUT_CURVES, METHOD_CURVES, map(sampled, SAMPLED_TOKENS), STARTS.values())
    )
)


def variants(sources: Sequence[str] = ()) -> dict[str, Variant]:
    """Every variant by its name, in the order of the tables.

    Args:
        sources: folders of the adapters that ATTEMPT mixes; without any it is left out
    """
    listed = [*_simple(), *_attempt(tuple(sources)), *_residual(), *_superpos(), _full()]
    return {each.name: each for each in listed}


def variant(name: str, sources: Sequence[str] = ()) -> Variant:
    """The variant of a name.

    Raises:
        InvalidArguments: no variant has it; says which names there are, or what ATTEMPT needs
    """
    known = variants(sources)
    if name in known:
        return known[name]
    if name == "attempt":
        raise InvalidArguments("method 'attempt' mixes prompts of other tasks, expected their folders (--source)")
    raise InvalidArguments(f"method {name!r} is not a variant of the paper, expected one of {', '.join(known)}")


def _simple() -> list[Variant]:
    simple = TrainArguments(method="simple", lr=0.01, weight_decay=0.01)
    swept = [
        Variant(name=f"simple-lr{lr:g}", title="Simple PT", arguments=replace(simple, lr=lr, weight_decay=1e-5))
        for lr in _SIMPLE_RATES
    ]
    own = Variant(name="simple", title="Simple PT", arguments=simple)
    return [_with_dropout(own), own, *swept, _with_dropout(swept[_SIMPLE_RATES.index(0.3)])]


def _attempt(sources: tuple[str, ...]) -> list[Variant]:
    if not sources:
        return []
    arguments = TrainArguments(method="attempt", lr=0.3, weight_decay=1e-5, bottleneck=100, sources=sources)
    return [Variant(name="attempt", title="ATTEMPT", arguments=arguments)]


def _residual() -> list[Variant]:
    arguments = TrainArguments(method="residual", lr=0.3, weight_decay=0.01, bottleneck=128)
    own = Variant(name="residual", title="Residual PT", arguments=arguments)
    return [_with_dropout(own), own]


def _superpos() -> list[Variant]:
    superpos = TrainArguments(method="superpos", lr=0.01, weight_decay=1e-5)
    own = Variant(name="superpos", title="SuperPos PT", arguments=superpos)
    others = [
        Variant(
            name=name,
            title="SuperPos PT" + (", shared E" if basis == "shared" else "") + _start_title(init),
            arguments=replace(superpos, basis=basis, weights_init=init),
        )
        for (basis, init), name in STARTS.items()
        if name != "superpos"
    ]
    softmax = Variant(name="superpos-softmax", title="SuperPos PT, softmax", arguments=replace(superpos, softmax=True))
    by_count = [
        Variant(name=sampled(m), title=f"SuperPos PT, m = {m}", arguments=replace(superpos, num_sampled_tokens=m))
        for m in SAMPLED_TOKENS
        if m != superpos.num_sampled_tokens
    ]
    swept = [
        Variant(name=name, title="SuperPos PT", arguments=replace(superpos, lr=lr))
        for lr, name in SUPERPOS_RATES.items()
        if name != "superpos"
    ]
    return [_with_dropout(own), own, *swept, *others, softmax, *by_count]


def _full() -> Variant:
    """Full fine-tuning, which the paper ran with dropout alone."""
    arguments = TrainArguments(method="full", lr=1e-5, weight_decay=0.0, dropout=True)
    return Variant(name="full", title="Full fine-tuning", arguments=arguments)


def _with_dropout(own: Variant) -> Variant:
    return Variant(name=f"{own.name}-dropout", title=own.title, arguments=replace(own.arguments, dropout=True))


def _start_title(init: WeightsInit) -> str:
    return "" if init == "normal" else f", p′ starts {'uniform' if init == 'uniform' else 'at zero'}"
