"""What of a run's arguments belongs into its adapter: all but what its method has no use for."""

from collections.abc import Sequence
from dataclasses import asdict

from adapters.adapter import PromptAdapter
from training.arguments import TrainArguments
from training.choices import unused_arguments

Scalar = str | int | float | bool | None


def hyperparameters(arguments: TrainArguments, *, sources: Sequence[PromptAdapter] = ()) -> dict[str, Scalar]:
    """The provenance's. Source adapters stand there by their digests, not by where they lay."""
    unused = unused_arguments(arguments.method)
    values = {name: _scalar(value) for name, value in asdict(arguments).items() if name not in unused}
    if "sources" in values:
        values["sources"] = " ".join(source.digest for source in sources)
    return values


def _scalar(value: Scalar | tuple[str, ...]) -> Scalar:
    return " ".join(value) if isinstance(value, tuple) else value
