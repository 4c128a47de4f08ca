"""A run's method, started: from the arguments, the backbone and the adapters that it begins with."""

from collections.abc import Sequence

from adapters.adapter import PromptAdapter
from backbone import Backbone, to_transformers
from training.config.arguments import TrainArguments, make_method
from training.errors import InvalidArguments
from training.methods import FullFineTuning, Method
from training.runs.sources import source_prompts


def start_method(backbone: Backbone, arguments: TrainArguments, sources: Sequence[PromptAdapter] = ()) -> Method:
    """The method at its seed's start; the same arguments give the same start again.

    Args:
        sources: what `training.runs.sources.read_sources` gave for `arguments.sources`

    Raises:
        InvalidArguments: full fine-tuning of a backbone that is not in float32, or sources that do not fit
    """
    if arguments.method != "full":
        return make_method(arguments, backbone.weights.embedding, sources=source_prompts(backbone, sources))
    if backbone.precision != "fp32":
        raise InvalidArguments(f"full fine-tuning was asked for in {backbone.precision}, expected fp32")
    return FullFineTuning(to_transformers(backbone), weight_decay=arguments.weight_decay)
