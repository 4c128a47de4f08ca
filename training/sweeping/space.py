"""Search space of a sweep: the values of each training argument to try, and how Optuna draws a run from them."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from adapters.readout import ReadoutKind
from training.config.arguments import ARGUMENTS, TrainArguments, default_of, unused_arguments
from training.config.choices import Basis, MethodName, ReadoutInit, Schedule
from training.errors import InvalidArguments
from training.methods.tokens import sample_token_ids
from training.sweeping.dimensions import SHARES, UNSWEPT, Numbers, Span, Values, draw, extremes

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_ARGUMENTS_OF = {"methods": "method", "readouts": "readout"}
"""Fields that are not named like their argument."""
_RATES = Span(0.001, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The values to try. An argument with a single value is fixed, not a dimension of the search.

    None stands for the default of the trial's method and readout. An argument that a trial's method or readout does not
    use is not drawn for it.
    """

    methods: tuple[MethodName, ...] = ("superpos",)
    readouts: tuple[ReadoutKind, ...] = ("words",)
    lr: Numbers = _RATES
    weight_decay: Numbers | None = None
    batch_size: tuple[int, ...] = (32,)
    num_sampled_tokens: tuple[int, ...] = (128,)
    """superpos: m."""
    basis: tuple[Basis, ...] = ("per_token",)
    """superpos: one basis per prompt vector, or a shared one."""
    schedule: tuple[Schedule, ...] | None = None
    warmup: Numbers | None = None
    token_dropout: Numbers | None = None
    readout_lr: Numbers | None = None
    """This and the following: learned readouts."""
    readout_weight_decay: Numbers | None = None
    readout_dropout: Numbers | None = None
    readout_init: tuple[ReadoutInit, ...] | None = None
    label_smoothing: Numbers | None = None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the `TrainArguments` that are searched."""
        return tuple(
            name
            for name, given in self._values().items()
            if (isinstance(given, Span) or len(given or ()) > 1) and self._is_used(name)
        )

    def dimensions_of(self, arguments: TrainArguments) -> tuple[str, ...]:
        """Return the dimensions that a trial's method and readout use."""
        unused = unused_arguments(arguments.method, arguments.readout)
        return tuple(name for name in self.dimensions if name not in unused)

    def is_logarithmic(self, name: str) -> bool:
        """Whether a dimension has numbers that differ by factors."""
        given = self._values()[name] or ()
        if isinstance(given, Span):
            return given.log
        return name not in SHARES and all(isinstance(value, float) and value > 0 for value in given)

    def draw(self, trial: "BaseTrial", fixed: TrainArguments) -> TrainArguments:
        """Return the arguments of a trial: `fixed` with the values that Optuna chose."""
        method: MethodName = draw(trial, "method", self.methods)
        readout: ReadoutKind = draw(trial, "readout", self.readouts)
        unused = unused_arguments(method, readout)
        drawn: dict[str, Any] = {"method": method, "readout": readout}
        for name, given in self._values().items():
            if name not in drawn and name not in unused:
                drawn[name] = default_of(name, method, readout) if given is None else draw(trial, name, given)
        return replace(fixed, **drawn)

    def check(self, fixed: TrainArguments, *, vocab_size: int) -> None:
        """Check that every run in the space is valid.

        Raises:
            InvalidArguments: a value is invalid for its argument, no run of the space uses an argument of learned
                readouts, or the vocabulary is too small
        """
        for name, given in self._values().items():
            if ARGUMENTS[name].learned and given is not None and not self._is_used(name):
                raise InvalidArguments(
                    f"{name} is {_shown(given)}, but readout 'words' does not use it; expected it with --readout soft, "
                    "pooled, joint or auto"
                )
        for _ in self._ends(fixed):
            pass
        if "superpos" in self.methods:
            sample_token_ids(
                max(self.num_sampled_tokens),
                vocab_size=vocab_size,
                generator=torch.Generator(),
                sampling=fixed.token_sampling,
            )

    def variants(self, fixed: TrainArguments) -> Iterator[TrainArguments]:
        """Yield `fixed` with each method and readout.

        Raises:
            InvalidArguments: a method cannot be swept or has no such readout
        """
        for method in self.methods:
            if method in UNSWEPT:
                raise InvalidArguments(f"method {method!r} cannot be swept: {UNSWEPT[method]}")
            yield from (replace(fixed, method=method, readout=readout) for readout in self.readouts)

    def _ends(self, fixed: TrainArguments) -> Iterator[TrainArguments]:
        # `TrainArguments` checks each value
        yield from self.variants(fixed)
        for name, given in self._values().items():
            if name not in _ARGUMENTS_OF.values():
                yield from (replace(fixed, **{name: value}) for value in extremes(given or ()))

    def _values(self) -> dict[str, Values | None]:
        return {_ARGUMENTS_OF.get(each.name, each.name): getattr(self, each.name) for each in fields(self)}

    def _is_used(self, name: str) -> bool:
        return any(
            name not in unused_arguments(method, readout) for method in self.methods for readout in self.readouts
        )


def _shown(given: Values) -> str:
    return f"{given.low:g}:{given.high:g}" if isinstance(given, Span) else ",".join(map(str, given))
