"""The precision that a command trains in if none is asked for."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from backbone import Precision, device_named, fastest_for_training
from training.config.choices import OWN_MODEL, MethodName
from training.runs.layout import RUN, read_json

_EXACT_PRESETS = "paper/"
"""Presets with this beginning reproduce figures that are not of bf16."""


def automatic_precision(
    devices: Sequence[str], methods: Collection[MethodName], *, preset: str | None
) -> tuple[Precision, str]:
    """Return the precision of a command's runs, which they share, and the reason.

    Raises:
        backbone.DeviceUnavailable: there is no such device
    """
    if own := sorted(OWN_MODEL & set(methods)):
        return "fp32", f"method {own[0]} needs it"
    if set(methods) == {"head"}:
        return "fp32", "a head takes no steps that bf16 would make faster"
    if preset is not None and preset.startswith(_EXACT_PRESETS):
        return "fp32", f"preset {preset}"
    slow = [name for name in devices if fastest_for_training(device_named(name)) == "fp32"]
    if slow:
        return "fp32", f"device {slow[0]} does not train faster in bf16"
    return "bf16", f"device {devices[0]} is faster in it"


def begun_precision(folders: Sequence[Path]) -> Precision | None:
    """Return the precision of the first run that one of the folders holds, which a resumed command keeps.

    None if there is no run, or its file cannot be read; resuming it then fails with the reason.
    """
    for folder in folders:
        if not (folder / RUN).is_file():
            continue
        try:
            found = read_json(folder / RUN).get("precision", "fp32")
        except (OSError, ValueError, AttributeError):
            continue
        return next((each for each in get_args(Precision) if each == found), None)
    return None
