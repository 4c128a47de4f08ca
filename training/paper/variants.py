"""The rows of the paper's tables and of its ablations: each a method with its hyperparameters, under a name.

Hyperparameters are the paper's (§3.4). Ours: simple prompt tuning at larger rates with Lester et al.'s weight decay,
since the paper's 0.01 hardly moves a prompt; SuperPos at larger rates too; SuperPos with one basis for all tokens; the
ways in which p′ may start.
"""

from dataclasses import dataclass, replace
from itertools import chain

from training.config.arguments import TrainArguments
from training.config.choices import Basis, MethodName, WeightsInit
from training.errors import InvalidArguments

SAMPLED_TOKENS = (8, 16, 32, 64, 128, 256)
"""m of the ablation (Figure 2c)."""

_SIMPLE_RATES = (0.1, 0.3, 1.0)
SWEPT_SIMPLE = ("simple", *(f"simple-lr{lr:g}" for lr in _SIMPLE_RATES))
"""Simple prompt tuning without dropout, over the rates that it is swept over."""

TABLE1 = (
    *("simple-dropout", *SWEPT_SIMPLE, "attempt-dropout", "attempt", "residual-dropout", "residual"),
    *("superpos-dropout", "superpos", "superpos-shared", "full"),
)
TABLE2 = tuple(name for name in TABLE1 if not name.startswith("attempt"))
"""The paper leaves ATTEMPT out of the standardised score."""
TABLE3 = ("superpos", "superpos-softmax", "one-shot")
RELATIVES = ("superpos", "spot", "panda", "mpt", "ipt", "lora", "houlsby", "one-shot")
"""Other ways to start from a task's prompt or to tune the network, and one-shot prompting, next to SuperPos."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Folders that variants start from: of adapters, of a shared prompt and of a subspace.

    A variant whose folder is not given is left out.
    """

    attempt: tuple[str, ...] = ()
    """The adapters that ATTEMPT mixes."""
    transfer: str | None = None
    """The adapter that SPoT starts from and PANDA learns from."""
    shared: str | None = None
    """The shared prompt of MPT."""
    subspace: str | None = None
    """The subspace of IPT."""


NO_STARTS = Starts()
ANY_STARTS = Starts(attempt=("",), transfer="", shared="", subspace="")
"""For a variant's name and title, which its start does not change."""
_OPTIONS = {
    "attempt": "mixes prompts of other tasks, expected their folders (--source)",
    "spot": "starts from an adapter, expected its folder (--transfer)",
    "panda": "learns from an adapter, expected its folder (--transfer)",
    "mpt": "starts from a shared prompt, expected its folder (--shared)",
    "ipt": "starts from a subspace, expected its folder (--subspace)",
}


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


def variants(starts: Starts = NO_STARTS) -> dict[str, Variant]:
    """Return every variant by its name, in the order of the tables."""
    listed = [*_simple(), *_attempt(starts.attempt), *_residual(), *_superpos(), _full(), *_relatives(starts)]
    return {each.name: each for each in listed}


def variant(name: str, starts: Starts = NO_STARTS) -> Variant:
    """Return the variant of a name.

    Raises:
        InvalidArguments: no variant has it, or it lacks what it starts from
    """
    known = variants(starts)
    if name in known:
        return known[name]
    if (method := name.removesuffix("-dropout")) in _OPTIONS:
        raise InvalidArguments(f"method {name!r} {_OPTIONS[method]}")
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
    own = Variant(name="attempt", title="ATTEMPT", arguments=arguments)
    return [_with_dropout(own), own]


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


def _relatives(starts: Starts) -> list[Variant]:
    """Transfer, and weights inside the network, with the hyperparameters of `superpos train`."""
    given: dict[str, tuple[str, TrainArguments | None]] = {
        "spot": ("SPoT", _started_from("spot", starts.transfer, lr=0.3)),
        "panda": ("PANDA", _started_from("panda", starts.transfer, lr=0.3)),
        "mpt": ("MPT", _started_from("mpt", starts.shared, lr=0.3)),
        "ipt": ("IPT", _started_from("ipt", starts.subspace, lr=0.1)),
        "lora": ("LoRA", TrainArguments(method="lora", lr=5e-4, weight_decay=0.0)),
        "houlsby": ("Adapters", TrainArguments(method="houlsby", lr=3e-4, weight_decay=0.0, bottleneck=64)),
    }
    given["one-shot"] = ("One-shot, untrained", TrainArguments(method="one_shot"))
    return [
        Variant(name=name, title=title, arguments=arguments)
        for name, (title, arguments) in given.items()
        if arguments is not None
    ]


def _started_from(method: MethodName, folder: str | None, *, lr: float) -> TrainArguments | None:
    return None if folder is None else TrainArguments(method=method, sources=(folder,), lr=lr, weight_decay=1e-5)


def _with_dropout(own: Variant) -> Variant:
    return Variant(name=f"{own.name}-dropout", title=own.title, arguments=replace(own.arguments, dropout=True))


def _start_title(init: WeightsInit) -> str:
    return "" if init == "normal" else f", p′ starts {'uniform' if init == 'uniform' else 'at zero'}"
