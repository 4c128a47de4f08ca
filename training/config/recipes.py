"""Runs that one `superpos train` trains together: the methods, readouts and rates that its options stand for."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.readout import ReadoutKind
from adapters.task import TaskSpec
from training.config.arguments import ARGUMENTS, TrainArguments, default_of, readouts_of, used_arguments
from training.config.choices import WITHOUT_ADAPTER, MethodName
from training.config.presets import PRESETS, train_arguments
from training.errors import InvalidArguments

AUTO = "auto"
"""As a method: a head and prompts, of which the selection rows choose; as a readout: all that method and loss allow."""
_MANY_LABELS = 20
_CHEAPEST_FIRST = ("pooled", "soft", "joint", "words")


def recipes(
    explicit: Mapping[str, Any],
    *,
    rates: Sequence[float] = (),
    preset: str | None = None,
    tasks: Sequence[TaskSpec] = (),
) -> list[TrainArguments]:
    """Return the arguments of every run that the options ask for, apart from seeds and folds.

    Args:
        explicit: options by argument name, without the learning rate; `method` may be `auto`, `readout` may be `auto`
            or several readouts separated by commas
        rates: learning rates; empty for the default
        tasks: what is trained; decides the readout if neither the options nor a preset name one (`recommended`)

    Raises:
        InvalidArguments: as `train_arguments`; a readout is repeated; or `auto` with a preset whose method has no
            adapter
    """
    if tasks:
        explicit = _with_learned_readout(explicit, tasks, preset=preset)
    if explicit.get("method") != AUTO:
        return _of_readouts(explicit, rates=rates, preset=preset)
    rest = {name: value for name, value in explicit.items() if name != "method"}
    recipe = PRESETS.get(preset or "")  # an unknown name is refused below
    method: MethodName = "superpos" if recipe is None else recipe.values.get("method", "superpos")
    if reason := WITHOUT_ADAPTER.get(method):
        raise InvalidArguments(
            f"method 'auto' publishes an adapter, but preset {preset!r} has the method {method!r}: {reason}"
        )
    prompts = _of_readouts({"readout": AUTO} | rest | {"method": method}, rates=rates, preset=preset)
    return [*_heads(rest), *prompts]


def recommended(tasks: Sequence[TaskSpec]) -> ReadoutKind:
    """Return the readout of tasks if none is named: `soft` for pairs and for many labels, else `pooled`.

    In first trials, `pooled` was best on single texts with few rows, `soft` with 77 labels, and on pairs `pooled`
    overfitted.
    """
    is_hard = any(len(spec.fields) > 1 or len(spec.labels) > _MANY_LABELS for spec in tasks)
    return "soft" if is_hard and not any(spec.is_multi_label for spec in tasks) else "pooled"


def _with_learned_readout(
    explicit: Mapping[str, Any], tasks: Sequence[TaskSpec], *, preset: str | None
) -> Mapping[str, Any]:
    method = explicit.get("method", "superpos")
    asks_all = explicit.get("readout") == AUTO or (method == AUTO and "readout" not in explicit)
    if asks_all and all(spec.is_multi_label for spec in tasks):
        return {**explicit, "readout": "soft,pooled,joint"}
    is_decided = asks_all or "readout" in explicit or preset is not None or explicit.get("loss") == "full"
    has_no_choice = method in WITHOUT_ADAPTER or readouts_of(method) == ("words",)
    if is_decided or has_no_choice or default_of("readout", method) != "words":
        return explicit  # what does not suit such a task is refused with the reason
    return {**explicit, "readout": recommended(tasks)}


def _heads(explicit: Mapping[str, Any]) -> list[TrainArguments]:
    """Return a head for each learned readout that is asked for, or for all; options of prompts do not concern it."""
    asked = explicit.get("readout", AUTO)
    of_heads = readouts_of("head")
    known = [readout for readout in of_heads if asked == AUTO or readout in asked.split(",")] or list(of_heads)
    kept = used_arguments(explicit, "head", "pooled")
    return [train_arguments(kept | {"method": "head", "readout": readout}) for readout in known]


def _of_readouts(explicit: Mapping[str, Any], *, rates: Sequence[float], preset: str | None) -> list[TrainArguments]:
    """Return the arguments for each readout and rate."""
    of_rates: list[dict[str, Any]] = [{"lr": rate} for rate in rates] or [{}]
    return [
        train_arguments(given | rate, preset=preset) for given in _by_readout(explicit, preset) for rate in of_rates
    ]


def _by_readout(explicit: Mapping[str, Any], preset: str | None) -> list[dict[str, Any]]:
    """Return the explicit arguments of each readout to train."""
    if "readout" not in explicit:
        return [dict(explicit)]
    text: str = explicit["readout"]
    readouts: Sequence[str] = _possible_readouts(explicit, preset) if text == AUTO else text.split(",")
    if len(set(readouts)) < len(readouts):
        raise InvalidArguments(f"readout is {text!r}, expected each readout once")
    if len(readouts) == 1:
        return [{**explicit, "readout": readouts[0]}]
    # an argument of the learned readouts among them is not refused for the sake of `words`
    return [
        {name: value for name, value in explicit.items() if readout != "words" or not ARGUMENTS[name].learned}
        | {"readout": readout}
        for readout in readouts
    ]


def _possible_readouts(explicit: Mapping[str, Any], preset: str | None) -> Sequence[ReadoutKind]:
    """Return the readouts that the method and the loss, given or of the preset, can train."""
    recipe = PRESETS.get(preset or "")  # an unknown name is refused later
    values = ({} if recipe is None else dict(recipe.values)) | dict(explicit)
    if values.get("loss") == "full":
        return ("words",)
    return readouts_of(values.get("method", "superpos"))


def cost_rank(method: str, readout: str) -> tuple[int, int]:
    """Rank settings by what they cost to train and serve, the cheapest lowest: heads, then fewer decoder passes."""
    return int(method != "head"), _CHEAPEST_FIRST.index(readout)
