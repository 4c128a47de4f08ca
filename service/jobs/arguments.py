"""Which settings of a job work together: the trainer's rules, applied before anything waits for a trainer.

Servers import no training code; a test compares every combination with what `training` accepts.
"""

from collections.abc import Mapping, Sequence

from adapters.task import TaskSpec
from service.errors import InvalidRequest
from service.jobs.models import Argument

_OF_HEADS = ("method", "readout", "seed", "abstain_precision")
"""Arguments of `head`, which is fitted instead of trained."""
_OF_SUPERPOS = ("num_sampled_tokens",)
_OF_LEARNED = ("label_smoothing",)
"""Arguments that the readout `words` does not use."""
_OF_ONE_LABEL = frozenset({"f1", "f1a"})
_OF_NUMBERS = frozenset({"pearson", "spearman"})
_OF_LABEL_SETS = ("accuracy", "macro_f1", "micro_f1", "map")
_ONLY_OF_LABEL_SETS = frozenset({"micro_f1", "map"})


def check_arguments(arguments: Mapping[str, Argument], spec: TaskSpec) -> None:
    """Refuse arguments that contradict each other or the task (`InvalidRequest`).

    Args:
        arguments: those that the job names; each is valid by itself
        spec: the task
    """
    method, readout = arguments.get("method", "superpos"), arguments.get("readout")
    if spec.is_multi_label:
        if readout == "words":
            raise _refused("readout", readout, "soft, pooled, joint or auto: the label words of a multi_label task")
        if "abstain_precision" in arguments:
            given = arguments["abstain_precision"]
            raise _refused("abstain_precision", given, "none: each label of a multi_label task has its own threshold")
    if method == "head" and readout == "words":
        raise _refused("readout", readout, "soft, pooled, joint or auto with the method 'head'")
    for name, value in arguments.items():
        if method == "head" and name not in _OF_HEADS:
            raise _refused(name, value, f"only {', '.join(_OF_HEADS)} with the method 'head', which takes no steps")
        if name in _OF_SUPERPOS and method not in ("superpos", "auto"):
            raise _refused(name, value, f"none with the method {method!r}: only superpos uses it")
        if name in _OF_LEARNED and readout == "words":
            raise _refused(name, value, "none with the readout 'words': only learned readouts use it")


def check_metrics(metrics: Sequence[str], positive: str | None, spec: TaskSpec) -> None:
    """Refuse metrics that the task cannot have, and a positive label that it lacks (`InvalidRequest`)."""
    if len(set(metrics)) < len(metrics):
        raise InvalidRequest(f"task.metrics is {', '.join(metrics)}, expected each metric once")
    for name in metrics:
        if name in _OF_NUMBERS and spec.kind != "ordinal":
            raise InvalidRequest(f"task.metrics has {name!r}, expected it only with labels that are numbers, ordinal")
        if spec.is_multi_label and name not in _OF_LABEL_SETS:
            known = ", ".join(_OF_LABEL_SETS)
            raise InvalidRequest(f"task.metrics has {name!r}, expected of a multi_label task: {known}")
        if not spec.is_multi_label and name in _ONLY_OF_LABEL_SETS:
            raise InvalidRequest(f"task.metrics has {name!r}, expected it only of a multi_label task")
    if positive is not None and positive not in spec.label_names:
        raise InvalidRequest(f"task.positive is {positive!r}, expected one of {', '.join(spec.label_names[:20])}")
    if positive is None and _OF_ONE_LABEL & set(metrics) and len(spec.labels) != 2:
        raise InvalidRequest(
            f"task.positive is missing, expected the label that F1 refers to: the task has {len(spec.labels)} labels"
        )


def _refused(name: str, value: object, expected: str) -> InvalidRequest:
    return InvalidRequest(f"arguments.{name} is {value!r}, expected {expected}")
