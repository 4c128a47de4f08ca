"""Presets: published recipes by name, and the rule that combines one with explicit arguments.

Where a source is silent (the paper: batch size, clipping, the initialisation of p′), this project's default applies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.readout import ReadoutKind
from training.config.arguments import ARGUMENTS, TrainArguments, default_of, unused_arguments, users_of
from training.config.choices import MethodName
from training.errors import InvalidArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Values of `TrainArguments` and their source."""

    source: str
    values: Mapping[str, Any]


DEFAULT_PATIENCE = 5
"""The patience of a run without a preset. A preset that names none has no early stopping: its source has none."""
DEFAULT_MIN_STEPS = 100
"""The minimum number of steps of a run whose length neither a preset nor an explicit value decides."""
LENGTHS = ("epochs", "max_steps")
"""Arguments that decide the length of a run."""
NO_PATIENCE = 0
"""Stands for no early stopping among explicit values, where None is an option that was not given."""

_PAPER = {"num_virtual_tokens": 10, "epochs": 80, "loss": "full"}
"""Sadraei et al. 2024, §3.4: ten prompt tokens, 80 epochs, AdamW at a constant rate, the label words generated."""
_LESTER = {
    "num_virtual_tokens": 100,
    "lr": 0.3,
    "weight_decay": 1e-5,
    "batch_size": 32,
    "epochs": 100_000,
    "max_steps": 30_000,
    "loss": "full",
}
"""Lester et al. 2021, §3."""

PRESETS: dict[str, Preset] = {
    "paper/superpos": Preset(
        source="Sadraei et al. 2024, §3.4 and Table 1 (without dropout)",
        values=_PAPER
        | {"method": "superpos", "num_sampled_tokens": 128, "basis": "per_token", "lr": 0.01, "weight_decay": 1e-5},
    ),
    "paper/simple": Preset(
        source="Sadraei et al. 2024, §3.4",
        values=_PAPER | {"method": "simple", "lr": 0.01, "weight_decay": 0.01},
    ),
    "lester/simple": Preset(
        source="Lester et al. 2021, §3: 100 of the 5,000 most common tokens, rate 0.3 (theirs: Adafactor)",
        values=_LESTER | {"method": "simple", "token_sampling": "common"},
    ),
    "vu/spot": Preset(
        source="Vu et al. 2022, §2: as Lester et al. 2021, from a source prompt of 100 tokens; needs --source",
        values=_LESTER | {"method": "spot"},
    ),
    "paper/residual": Preset(
        source="Sadraei et al. 2024, §3.4, after Razdaibiedina et al. 2023",
        values=_PAPER | {"method": "residual", "bottleneck": 128, "lr": 0.3, "weight_decay": 0.01},
    ),
    "paper/attempt": Preset(
        source="Sadraei et al. 2024, §3.4, after Asai et al. 2022; needs --source, trains only",
        values=_PAPER | {"method": "attempt", "bottleneck": 100, "lr": 0.3, "weight_decay": 1e-5},
    ),
    "wang/mpt": Preset(
        source="Wang et al. 2023, §4.1: 100 tokens, rates 0.3 (shared) and 0.4 (task); the epochs are this project's; "
        "needs --source, a shared prompt of superpos library share",
        values={
            "method": "mpt",
            "num_virtual_tokens": 100,
            "lr": 0.3,
            "factor_lr": 0.4,
            "weight_decay": 1e-5,
            "epochs": 20,
            "loss": "full",
        },
    ),
    "qin/ipt": Preset(
        source="Qin et al. 2021, §3, whose code has prompts of 100 tokens, batches of 4, a rate that falls after a "
        "warm-up and gradients clipped at 0.1; rate and epochs are this project's, since its embeddings are larger; "
        "needs --source, a subspace of superpos library subspace",
        values={
            "method": "ipt",
            "num_virtual_tokens": 100,
            "lr": 0.1,
            "schedule": "linear",
            "warmup": 0.06,
            "clip": 0.1,
            "weight_decay": 0.0,
            "batch_size": 4,
            "epochs": 20,
            "loss": "full",
        },
    ),
    "zhong/panda": Preset(
        source="Zhong et al. 2022, §3, as their code trains CB: 20 tokens, 100 epochs of 16 rows, weight 0.1 times the "
        "transferability; needs --source",
        values={
            "method": "panda",
            "num_virtual_tokens": 20,
            "distillation": 0.1,
            "lr": 0.007,
            "batch_size": 16,
            "epochs": 100,
            "dropout": True,
        },
    ),
    "paper/full": Preset(
        source="Sadraei et al. 2024, §3.4 and Table 1 (with dropout); a baseline, trains only",
        values=_PAPER | {"method": "full", "lr": 1e-5, "dropout": True},
    ),
    "hu/lora": Preset(
        source="Hu et al. 2022, Table 9 (SST-2): rank 8 on query and value, scale 1; a baseline, trains only",
        values={
            "method": "lora",
            "rank": 8,
            "lr": 5e-4,
            "schedule": "linear",
            "warmup": 0.06,
            "batch_size": 16,
            "epochs": 60,
            "loss": "full",
        },
    ),
    "houlsby/adapter": Preset(
        source="Houlsby et al. 2019, §3.1: bottlenecks of 64, rate 3e-4, 20 epochs; a baseline, trains only",
        values={
            "method": "houlsby",
            "bottleneck": 64,
            "lr": 3e-4,
            "schedule": "linear",
            "warmup": 0.1,
            "batch_size": 32,
            "epochs": 20,
            "loss": "full",
        },
    ),
    "fast": Preset(
        source="this project: a shared basis, few epochs, early stopping",
        values={"method": "superpos", "basis": "shared", "epochs": 8, "patience": 3, "lr": 0.01},
    ),
}


def train_arguments(explicit: Mapping[str, Any], *, preset: str | None = None) -> TrainArguments:
    """Combine the arguments of a run: explicit values win over the preset's, and those over the method's defaults.

    Raises:
        InvalidArguments: an unknown preset, a value outside its bounds, or an explicit one that the method does not use
    """
    if preset is not None and preset not in PRESETS:
        raise InvalidArguments(f"unknown preset {preset!r}; expected one of {', '.join(PRESETS)}")
    values = ({} if preset is None else dict(PRESETS[preset].values)) | dict(explicit)
    method: MethodName = values.get("method", "superpos")
    readout: ReadoutKind = values.get("readout", default_of("readout", method))
    # the number of sources is checked by TrainArguments itself
    for name in sorted((explicit.keys() - {"sources"}) & unused_arguments(method, readout)):
        users = users_of(name)
        if method in users:
            raise InvalidArguments(f"{name} is {explicit[name]!r}, but readout {readout!r} does not use it")
        known = ", ".join(users)
        raise InvalidArguments(f"{name} is {explicit[name]!r}, but method {method!r} does not use it, only {known}")
    defaults: dict[str, Any] = {name: default_of(name, method, readout) for name in ARGUMENTS}
    if preset is None and method in users_of("patience"):
        defaults["patience"] = DEFAULT_PATIENCE
    if preset is None and method in users_of("min_steps") and explicit.keys().isdisjoint(LENGTHS):
        defaults["min_steps"] = DEFAULT_MIN_STEPS
    if values.get("patience") == NO_PATIENCE:
        values["patience"] = None
    return TrainArguments(**(defaults | values))
