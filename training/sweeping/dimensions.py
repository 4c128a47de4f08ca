"""Dimensions of a search space: ranges and choices of one argument, parsed from text and drawn by Optuna."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from adapters.readout import ReadoutKind
from adapters.task import TaskSpec
from training.config.arguments import CHOICES
from training.config.choices import Basis, MethodName
from training.config.recipes import AUTO, recommended
from training.errors import InvalidArguments

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

T = TypeVar("T")

UNSWEPT = {
    "spot": "it starts from an adapter",
    "mixture": "it is made of adapters",
    "mpt": "it starts from a shared prompt",
    "ipt": "it starts from a subspace",
    "panda": "it has a teacher",
    "attempt": "it is made of adapters",
    "full": "it has no prompt",
    "lora": "it has no prompt",
    "houlsby": "it has no prompt",
    "one_shot": "it is not trained",
    "head": "it is fitted in seconds and chooses its own regularisation",
}
"""Methods that cannot be swept, with the reason."""

SHARES = frozenset({"readout_dropout", "label_smoothing", "warmup", "token_dropout"})
"""Arguments between 0 and 1, whose ranges are sampled uniformly."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range that is sampled log-uniformly, or uniformly.

    Raises:
        InvalidArguments: its ends are not in order, or the lower one is below 0, or 0 on a logarithmic scale
    """

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        is_valid = 0 < self.low < self.high if self.log else 0 <= self.low < self.high
        if not is_valid:
            first = "0 <" if self.log else "0 <="
            raise InvalidArguments(f"invalid range {self.low:g}:{self.high:g}, expected {first} low < high")


Numbers = Span | tuple[float, ...]
Values = Span | tuple[Any, ...]
"""The values of any argument."""


def numbers(text: str, name: str) -> Numbers:
    """Parse `low:high`, or values separated by commas.

    Raises:
        InvalidArguments: the text is neither
    """
    try:
        if ":" in text:
            low, high = (float(part) for part in text.split(":"))
            return Span(low, high, log=name not in SHARES)
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
        InvalidArguments: a method is unknown, or cannot be swept
    """
    return _names(text, "method", tuple(name for name in get_args(MethodName) if name not in UNSWEPT))


def bases(text: str) -> tuple[Basis, ...]:
    """Parse names of bases separated by commas.

    Raises:
        InvalidArguments: a basis is unknown
    """
    return _names(text, "basis", get_args(Basis))


def readouts(text: str | None, spec: TaskSpec) -> tuple[ReadoutKind, ...]:
    """Parse names of readouts separated by commas, or `auto` for all that the task can train.

    Args:
        text: None for the readout that `superpos train` would choose

    Raises:
        InvalidArguments: a readout is unknown
    """
    if text is None:
        return (recommended([spec]),)
    known: tuple[ReadoutKind, ...] = get_args(ReadoutKind)
    if text == AUTO:
        return tuple(each for each in known if each != "words" or not spec.is_multi_label)
    return _names(text, "readout", known)


def values(text: str, name: str) -> Values:
    """Parse the values of an argument: its choices, or numbers.

    Raises:
        InvalidArguments: the text is neither
    """
    return _names(text, name, CHOICES[name]) if name in CHOICES else numbers(text, name)


def extremes(given: Values) -> tuple[Any, ...]:
    """Return the values that bound the others: the ends of a range, or all choices."""
    return (given.low, given.high) if isinstance(given, Span) else given


def draw(trial: "BaseTrial", name: str, given: Values) -> Any:
    """Return Optuna's choice for a trial. A single value is not asked for."""
    if isinstance(given, Span):
        return trial.suggest_float(name, given.low, given.high, log=given.log)
    return given[0] if len(given) == 1 else trial.suggest_categorical(name, given)


def _names(text: str, name: str, known: tuple[T, ...]) -> tuple[T, ...]:
    chosen = _distinct(tuple(text.split(",")), name)
    for part in chosen:
        if part not in known:
            raise InvalidArguments(f"{name} is {part!r}, expected one or more of {', '.join(map(str, known))}")
    return tuple(value for part in chosen for value in known if value == part)


def _distinct(given: tuple[T, ...], name: str) -> tuple[T, ...]:
    if len(set(given)) < len(given):
        raise InvalidArguments(f"{name}: duplicate value in {','.join(map(str, given))}")
    return given
