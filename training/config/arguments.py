"""`TrainArguments`: every argument of a training run, declared once.

A field's metadata holds its help text, bounds, per-method defaults and the methods that use it. Validation, the options
of the command line, the search space of a sweep and the settings on an adapter's card are all derived from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from math import inf
from typing import Annotated, Any, Literal, get_args, get_origin

from adapters.readout import ReadoutKind
from training.config.choices import (
    OWN_MODEL,
    WITHOUT_ADAPTER,
    Basis,
    Calibrate,
    LossName,
    MethodName,
    ReadoutInit,
    Sampling,
    Schedule,
    TokenSampling,
    WeightsInit,
)
from training.errors import InvalidArguments

MAX_SEED = 2**53 - 1
"""The largest integer of an adapter's canonical JSON (RFC 8785)."""

MAX_SAMPLED_TOKENS = 31_997
"""The number of ordinary pieces in T5's sentencepiece vocabulary."""

NUM_SOURCES: dict[MethodName, tuple[int, int]] = {
    "spot": (1, 1),
    "mixture": (1, 1_000),
    "mpt": (1, 1),
    "ipt": (1, 1),
    "panda": (1, 2),
    "attempt": (1, 100),
}
"""The fewest and most source adapters, for the methods that start from other adapters."""

Panel = Literal["Method", "Readout", "Optimiser", "Data", "Calibration", "Run"]


@dataclass(frozen=True, slots=True)
class Argument:
    """The metadata of one training argument."""

    help: str
    panel: Panel
    _: KW_ONLY
    ge: float = -inf
    gt: float = -inf
    le: float = inf
    lt: float = inf
    methods: tuple[MethodName, ...] = get_args(MethodName)
    """The methods that use it."""
    by_method: Mapping[MethodName, object] = field(default_factory=dict)
    """The methods whose default is not the field's own."""
    by_readout: Mapping[ReadoutKind, object] = field(default_factory=dict)
    """The same for readouts; a method's own default comes first."""
    command_default: str = ""
    """The default of the command line in words, if it is not the field's."""
    unset: str = ""
    """The effect of omitting it, for an argument that has no default value."""
    learned: bool = False
    """Whether only learned readouts use it."""
    option: str | None = None
    """The option of the command line, if it is not named like the field."""

    @property
    def bounds(self) -> str:
        """The allowed range in words, empty if there is none."""
        if self.ge > -inf and self.le < inf:
            return f"{self.ge:.16g} to {self.le:.16g}"
        ends = {"at least": self.ge, "above": self.gt, "at most": self.le, "below": self.lt}
        return " and ".join(f"{word} {end:.16g}" for word, end in ends.items() if abs(end) < inf)

    def allows(self, value: float) -> bool:
        """Whether a number is finite and within the bounds."""
        return self.ge <= value <= self.le and self.gt < value < self.lt


_SUPERPOSED: tuple[MethodName, ...] = ("superpos", "mixture")
_SAMPLED: tuple[MethodName, ...] = ("superpos", "simple", "residual", "panda", "attempt")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """The arguments of a training run. Except for the number of epochs, the defaults are the paper's SuperPos.

    Raises:
        InvalidArguments: a value outside its bounds, or a number of sources that the method does not take
    """

    method: Annotated[
        MethodName,
        Argument(
            "Parameterisation of the prompt. Without a prompt: full trains all weights, lora and houlsby small ones in "
            "the network; head fits label vectors to the frozen states; one_shot reads an example of each label before "
            "every text.",
            "Method",
        ),
    ] = "superpos"
    basis: Annotated[
        Basis, Argument("One basis for each prompt vector, or one shared by all.", "Method", methods=_SUPERPOSED)
    ] = "per_token"
    softmax: Annotated[
        bool,
        Argument(
            "Apply a softmax to the weights p′ (the ablation of the paper's §A.2).", "Method", methods=_SUPERPOSED
        ),
    ] = False
    weights_init: Annotated[
        WeightsInit, Argument("Initial distribution of the weights p′.", "Method", methods=_SUPERPOSED)
    ] = "normal"
    token_sampling: Annotated[
        TokenSampling,
        Argument(
            "Sample the initial tokens from the whole vocabulary, or from its 5,000 most common pieces.",
            "Method",
            methods=_SAMPLED,
        ),
    ] = "vocabulary"  # noqa: S105 - not a password
    num_virtual_tokens: Annotated[int, Argument("Length of the prompt, P.", "Method", ge=1, le=100)] = 10
    num_sampled_tokens: Annotated[
        int,
        Argument(
            "Number of token embeddings to superpose, m.", "Method", ge=1, le=MAX_SAMPLED_TOKENS, methods=("superpos",)
        ),
    ] = 128
    bottleneck: Annotated[
        int,
        Argument(
            "Width of the bottleneck layer.",
            "Method",
            ge=1,
            le=4_096,
            methods=("residual", "attempt", "houlsby"),
            by_method={"houlsby": 64},
        ),
    ] = 128
    rank: Annotated[
        int,
        Argument(
            "Rank r of the prompt P = A·B, or of lora's updates.", "Method", ge=1, le=100, methods=("dpt", "lora")
        ),
    ] = 8
    sources: Annotated[
        tuple[str, ...],
        Argument(
            "Folder of an adapter to start from; repeatable. mpt: folder of a shared prompt; ipt: of a subspace. "
            "panda: the source, and optionally the teacher, an adapter that was trained on this task from the source.",
            "Method",
            methods=tuple(NUM_SOURCES),
            option="--source",
        ),
    ] = ()
    distillation: Annotated[
        float,
        Argument(
            "Weight of the teacher's answers in the loss, before it is multiplied by the source's transferability.",
            "Method",
            ge=0,
            le=1_000,
            methods=("panda",),
        ),
    ] = 0.1
    readout: Annotated[
        ReadoutKind,
        Argument(
            "How labels are scored. words: the decoder generates the label words; soft: a learned vector per label on "
            "the decoder's first state; pooled: the same on the mean of the encoder's states; joint: the same on both; "
            "auto: train all that suit the method and the task.",
            "Readout",
            by_method={"head": "pooled"},
            command_default="soft for texts of several fields and for more than 20 labels, else pooled; words for "
            "full, lora, houlsby, one_shot, attempt, panda, loss full and presets",
        ),
    ] = "words"
    readout_init: Annotated[
        ReadoutInit,
        Argument(
            "Start of the label vectors. fitted: logistic regression on the states of the training rows under the "
            "initial prompt; words: the label words' vectors for the decoder's state, zeros for the encoder's.",
            "Readout",
            methods=tuple(each for each in get_args(MethodName) if each not in WITHOUT_ADAPTER),
            learned=True,
        ),
    ] = "fitted"
    readout_lr: Annotated[
        float, Argument("Learning rate of the label vectors.", "Readout", gt=0, le=100, learned=True)
    ] = 0.01
    readout_weight_decay: Annotated[
        float, Argument("Weight decay of the label vectors.", "Readout", ge=0, le=10, learned=True)
    ] = 0.01
    readout_dropout: Annotated[
        float,
        Argument("Dropout on the state that the label vectors score.", "Readout", ge=0, lt=1, learned=True),
    ] = 0.1
    label_smoothing: Annotated[
        float,
        Argument(
            "Share of each row's target probability that is spread evenly over all labels.",
            "Readout",
            ge=0,
            lt=1,
            learned=True,
        ),
    ] = 0.0
    dropout: Annotated[bool, Argument("Train with T5's own dropout in the frozen network.", "Method")] = False
    token_dropout: Annotated[
        float,
        Argument(
            "Probability with which a training step leaves out each token of a text, so that fewer rows are learnt by "
            "heart.",
            "Data",
            ge=0,
            lt=1,
        ),
    ] = 0.0
    loss: Annotated[
        LossName,
        Argument(
            "labels: cross-entropy over the task's labels, as served; full: cross-entropy over the whole vocabulary.",
            "Optimiser",
        ),
    ] = "labels"
    # training.data.balance has the formulas of these two
    class_weights: Annotated[
        bool, Argument("Weight each row's loss by rows / (labels × rows with its label).", "Data")
    ] = False
    sampling: Annotated[
        Sampling, Argument("shuffled: every row once per epoch; balanced: every label equally often.", "Data")
    ] = "shuffled"
    epochs: Annotated[int, Argument("Passes over the training rows.", "Optimiser", ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Argument("Rows per optimiser step.", "Optimiser", ge=1, le=4_096)] = 32
    # superpos, residual, ATTEMPT and full fine-tuning as in the paper, §3.4; the others as in Lester et al. 2021
    lr: Annotated[
        float,
        Argument(
            "Learning rate of AdamW.",
            "Optimiser",
            gt=0,
            le=100,
            by_method={
                **dict.fromkeys(("simple", "residual", "dpt", "spot", "mpt", "panda", "attempt"), 0.3),
                "ipt": 0.1,
                "full": 1e-5,
                "lora": 5e-4,
                "houlsby": 3e-4,
            },
        ),
    ] = 0.01
    factor_lr: Annotated[
        float,
        Argument(
            "Learning rate of the task's vectors u and v; --lr is that of the shared prompt.",
            "Optimiser",
            gt=0,
            le=100,
            methods=("mpt",),
        ),
    ] = 0.4
    schedule: Annotated[
        Schedule,
        Argument(
            "constant: the same learning rate at every step; linear: it falls to zero over the steps.",
            "Optimiser",
            by_readout={"soft": "linear", "pooled": "linear", "joint": "linear"},
        ),
    ] = "constant"
    warmup: Annotated[
        float,
        Argument(
            "Share of the steps over which the learning rate rises from zero.",
            "Optimiser",
            ge=0,
            lt=1,
            by_readout={"soft": 0.05, "pooled": 0.05, "joint": 0.05},
        ),
    ] = 0.0
    # the paper does not give it for full fine-tuning
    weight_decay: Annotated[
        float,
        Argument(
            "Weight decay of AdamW; the basis of superpos is exempt.",
            "Optimiser",
            ge=0,
            le=1,
            by_method={"residual": 0.01, "full": 0.0, "lora": 0.0, "houlsby": 0.0},
        ),
    ] = 1e-5
    seed: Annotated[
        int, Argument("Random seed for token sampling, shuffling and the held-out split.", "Run", ge=0, le=MAX_SEED)
    ] = 0
    clip: Annotated[
        float | None,
        Argument(
            "Maximum gradient norm of a step, over all parameters of one prompt.",
            "Optimiser",
            gt=0,
            unset="no clipping",
        ),
    ] = None
    min_steps: Annotated[
        int,
        Argument(
            "Minimum number of optimiser steps: few rows are passed over more often than --epochs says, with as many "
            "evaluations.",
            "Optimiser",
            ge=0,
            command_default="100; 0 with --epochs, --max-steps or a preset",
        ),
    ] = 0
    max_steps: Annotated[
        int | None, Argument("Maximum number of optimiser steps.", "Optimiser", ge=1, unset="all steps of the epochs")
    ] = None
    eval_every: Annotated[
        int | None, Argument("Optimiser steps between evaluations.", "Optimiser", ge=1, unset="once per epoch")
    ] = None
    patience: Annotated[
        int | None,
        Argument(
            "Stop after this many evaluations without improvement; 0 for no early stopping.",
            "Optimiser",
            ge=0,
            unset="5, or the preset's",
        ),
    ] = None
    calibrate: Annotated[
        Calibrate,
        Argument(
            "Fit a temperature on the selection rows; auto: not for label words of more than 20 labels.", "Calibration"
        ),
    ] = "auto"
    abstain_precision: Annotated[
        float | None,
        Argument(
            "Fit an abstain threshold so that this share of the answers is right, for example 0.95.",
            "Calibration",
            gt=0,
            lt=1,
            unset="never abstain",
        ),
    ] = None

    def __post_init__(self) -> None:
        for name, argument in ARGUMENTS.items():
            value = getattr(self, name)
            choices = CHOICES.get(name)
            if choices and value not in choices:
                raise InvalidArguments(f"{name} is {value!r}, expected one of {', '.join(choices)}")
            if isinstance(value, int | float) and not argument.allows(value):
                raise InvalidArguments(f"{name} is {value}, expected {argument.bounds}")
        if self.readout not in (readouts := readouts_of(self.method)):
            raise InvalidArguments(
                f"method {self.method!r} was given the readout {self.readout!r}, expected {_any_of(readouts)}"
            )
        if self.readout != "words" and self.loss == "full":
            raise InvalidArguments(f"loss is 'full', which needs the readout 'words', not {self.readout!r}")
        fewest, most = NUM_SOURCES.get(self.method, (0, 0))
        if not fewest <= len(self.sources) <= most:
            expected = "none" if most == 0 else str(fewest) if fewest == most else f"{fewest} to {most}"
            raise InvalidArguments(
                f"method {self.method!r} was given {len(self.sources)} source adapters, expected {expected}"
            )

    def num_steps(self, steps_per_epoch: int) -> int:
        """Return the optimiser steps of a run, unless it stops early."""
        steps = max(self.epochs * steps_per_epoch, self.min_steps)
        return min(steps, self.max_steps or steps)


ARGUMENTS: Mapping[str, Argument] = {each.name: get_args(each.type)[1] for each in fields(TrainArguments)}
"""The metadata of each argument."""
TYPES: Mapping[str, object] = {each.name: get_args(each.type)[0] for each in fields(TrainArguments)}
"""The type of each argument's value."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    name: get_args(annotation) for name, annotation in TYPES.items() if get_origin(annotation) is Literal
}
"""The values of each argument that has a closed set of them."""
_DEFAULTS: Mapping[str, object] = {each.name: each.default for each in fields(TrainArguments)}


def default_of(name: str, method: MethodName, readout: ReadoutKind = "words") -> Any:
    """Return the default of an argument under a method and a readout."""
    argument = ARGUMENTS[name]
    return argument.by_method.get(method, argument.by_readout.get(readout, _DEFAULTS[name]))


def readouts_of(method: MethodName) -> tuple[ReadoutKind, ...]:
    """Return the readouts that a method can train."""
    if method in OWN_MODEL or method in ("panda", "one_shot"):
        return ("words",)
    return tuple(each for each in get_args(ReadoutKind) if method != "head" or each != "words")


def option_of(name: str) -> str:
    """Return the option of `superpos train` that sets an argument."""
    return ARGUMENTS[name].option or f"--{name.replace('_', '-')}"


_UNTRAINED: Mapping[MethodName, frozenset[str]] = {
    "head": frozenset({"method", "readout", "seed", "calibrate", "abstain_precision"}),
    "one_shot": frozenset({"method", "readout", "seed", "calibrate", "abstain_precision"}),
}
"""Arguments of `head`, which is fitted instead of trained, and of `one_shot`, which is neither."""


def users_of(name: str) -> tuple[MethodName, ...]:
    """Return the methods that use an argument."""
    return tuple(each for each in ARGUMENTS[name].methods if name in _UNTRAINED.get(each, (name,)))


def unused_arguments(method: MethodName, readout: ReadoutKind) -> frozenset[str]:
    """Return the names of the arguments that a method or a readout does not use."""
    return frozenset(
        name
        for name, argument in ARGUMENTS.items()
        if method not in users_of(name) or (argument.learned and readout == "words")
    )


def used_arguments(values: Mapping[str, Any], method: MethodName, readout: ReadoutKind) -> dict[str, Any]:
    """Return the values, by argument name, that a method and a readout use."""
    unused = unused_arguments(method, readout)
    return {name: value for name, value in values.items() if name not in unused}


def _any_of(choices: Sequence[str]) -> str:
    """Return `a, b or c`."""
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last
