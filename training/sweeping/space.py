"""Search space of a sweep: ranges and choices of the training arguments, and how Optuna draws from them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast, get_args

import torch

from training.config.arguments import ARGUMENTS, TrainArguments
from training.config.choices import Basis, MethodName
from training.errors import InvalidArguments
from training.methods.tokens import sample_token_ids

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

T = TypeVar("T")

UNSWEPT = {
    "spot": "it starts from an adapter",
    "mixture": "it is made of adapters",
    "attempt": "it is made of adapters",
    "full": "it has no prompt",
}
"""Methods that cannot be swept, with the reason."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range that is sampled log-uniformly.

    Raises:
        InvalidArguments: its ends are not above 0 and in order
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise InvalidArguments(f"invalid range {self.low:g}:{self.high:g}, expected 0 < low < high")


Numbers = Span | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The values to try. An argument with a single value is fixed, not a dimension of the search."""

    methods: tuple[MethodName, ...] = ("superpos",)
    lr: Numbers = Span(0.001, 1.0)
    weight_decay: Numbers | None = None
    """None for the default of each method."""
    batch_size: tuple[int, ...] = (32,)
    num_sampled_tokens: tuple[int, ...] = (128,)
    """superpos: m."""
    basis: tuple[Basis, ...] = ("per_token",)
    """superpos: one basis per prompt vector, or a shared one."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the `TrainArguments` that are searched."""
        choices = {
            "method": self.methods,
            "lr": self.lr,
            "weight_decay": self.weight_decay or (),
            "batch_size": self.batch_size,
            "num_sampled_tokens": self.num_sampled_tokens if "superpos" in self.methods else (),
            "basis": self.basis if "superpos" in self.methods else (),
        }
        return tuple(name for name, values in choices.items() if isinstance(values, Span) or len(values) > 1)

    def dimensions_of(self, method: MethodName) -> tuple[str, ...]:
        """Return the dimensions that a method uses."""
        return tuple(name for name in self.dimensions if method in ARGUMENTS[name].methods)

    def draw(self, trial: "BaseTrial", fixed: TrainArguments) -> TrainArguments:
        """Return the arguments of a trial: `fixed` with the values that Optuna chose."""
        method: MethodName = _choice(trial, "method", self.methods)
        own_decay = cast(float, ARGUMENTS["weight_decay"].by_method.get(method, fixed.weight_decay))
        drawn = replace(
            fixed,
            method=method,
            lr=_number(trial, "lr", self.lr),
            weight_decay=own_decay if self.weight_decay is None else _number(trial, "weight_decay", self.weight_decay),
            batch_size=_choice(trial, "batch_size", self.batch_size),
        )
        if method != "superpos":
            return drawn
        return replace(
            drawn,
            num_sampled_tokens=_choice(trial, "num_sampled_tokens", self.num_sampled_tokens),
            basis=_choice(trial, "basis", self.basis),
        )

    def check(self, fixed: TrainArguments, *, vocab_size: int) -> None:
        """Check that every run in the space is valid.

        Raises:
            InvalidArguments: a value is invalid for its argument, or the vocabulary is too small
        """
        for _ in self._ends(fixed):
            pass
        if "superpos" in self.methods:
            sample_token_ids(
                max(self.num_sampled_tokens),
                vocab_size=vocab_size,
                generator=torch.Generator(),
                sampling=fixed.token_sampling,
            )

    def _ends(self, fixed: TrainArguments) -> Iterator[TrainArguments]:
        # `TrainArguments` checks each value
        for method in self.methods:
            if method in UNSWEPT:
                raise InvalidArguments(f"method {method!r} cannot be swept: {UNSWEPT[method]}")
            yield replace(fixed, method=method)
        yield from (replace(fixed, lr=lr) for lr in _extremes(self.lr))
        yield from (replace(fixed, weight_decay=decay) for decay in _extremes(self.weight_decay or ()))
        yield from (replace(fixed, batch_size=size) for size in self.batch_size)
        yield from (replace(fixed, num_sampled_tokens=count) for count in self.num_sampled_tokens)


def numbers(text: str, name: str) -> Numbers:
    """Parse `low:high`, or values separated by commas.

    Raises:
        InvalidArguments: the text is neither
    """
    try:
        if ":" in text:
            low, high = (float(part) for part in text.split(":"))
            return Span(low, high)
        return _distinct(tuple(float(part) for part in text.split(",")), name)
    except ValueError as exc:
        raise InvalidArguments(f"{name} is {text!r}, expected low:high, or numbers separated by commas") from exc


def counts(text: str, name: str) -> tuple[int, ...]:
    """Parse whole numbers separated by commas.

    Raises:
        InvalidArguments: the text is anything else
    """
    try:
        return _distinct(tuple(int(part) for part in text.split(",")), name)
    except ValueError as exc:
        raise InvalidArguments(f"{name} is {text!r}, expected whole numbers separated by commas") from exc


def methods(text: str) -> tuple[MethodName, ...]:
    """Parse names of methods separated by commas.

    Raises:
        InvalidArguments: a method is unknown
    """
    return _names(text, "method", tuple(name for name in get_args(MethodName) if name not in UNSWEPT))


def bases(text: str) -> tuple[Basis, ...]:
    """Parse names of bases separated by commas.

    Raises:
        InvalidArguments: a basis is unknown
    """
    return _names(text, "basis", get_args(Basis))


def _names(text: str, name: str, known: tuple[T, ...]) -> tuple[T, ...]:
    chosen = _distinct(tuple(text.split(",")), name)
    for part in chosen:
        if part not in known:
            raise InvalidArguments(f"{name} is {part!r}, expected one or more of {', '.join(map(str, known))}")
    return tuple(value for part in chosen for value in known if value == part)


def _distinct(values: tuple[T, ...], name: str) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise InvalidArguments(f"{name}: duplicate value in {','.join(map(str, values))}")
    return values


def _extremes(values: Numbers) -> tuple[float, ...]:
    return (values.low, values.high) if isinstance(values, Span) else values


def _number(trial: "BaseTrial", name: str, values: Numbers) -> float:
    if isinstance(values, Span):
        return trial.suggest_float(name, values.low, values.high, log=True)
    return _choice(trial, name, values)


def _choice(trial: "BaseTrial", name: str, values: tuple[T, ...]) -> T:
    if len(values) == 1:
        return values[0]
    chosen: T = trial.suggest_categorical(name, values)  # type: ignore[assignment, arg-type]
    return chosen
