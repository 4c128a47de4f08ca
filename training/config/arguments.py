"""The arguments of a training run."""

from dataclasses import dataclass

from training.config.choices import Basis, Calibrate, LossName, MethodName, Sampling, TokenSampling, WeightsInit
from training.errors import InvalidArguments

DEFAULT_LR: dict[MethodName, float] = {
    "superpos": 0.01,
    "simple": 0.3,
    "residual": 0.3,
    "dpt": 0.3,
    "spot": 0.3,
    "mixture": 0.01,
    "attempt": 0.3,
    "full": 1e-5,
}
"""SuperPos, residual, ATTEMPT and full fine-tuning as in the paper, §3.4; the others as Lester et al. 2021."""

DEFAULT_WEIGHT_DECAY: dict[MethodName, float] = {"residual": 0.01, "full": 0.0}
"""Where it is not 1e-5. The paper does not say it for full fine-tuning."""

MAX_SEED = 2**53 - 1
"""The largest integer of an adapter's canonical JSON (RFC 8785)."""

MAX_SAMPLED_TOKENS = 31_997
"""The ordinary pieces of T5's sentencepiece vocabulary."""

NUM_SOURCES: dict[MethodName, tuple[int, int]] = {"spot": (1, 1), "mixture": (1, 1_000), "attempt": (1, 100)}
"""The fewest and most source adapters of the methods that take any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """What a run is made of. Defaults are the paper's SuperPos but for the epochs.

    Raises:
        InvalidArguments: a value outside its range, or one that the method has no use for
    """

    method: MethodName = "superpos"
    basis: Basis = "per_token"
    softmax: bool = False
    """superpos, mixture: a softmax over p′, the ablation of the paper's §A.2."""
    weights_init: WeightsInit = "normal"
    token_sampling: TokenSampling = "vocabulary"  # noqa: S105 - vocabulary tokens
    num_virtual_tokens: int = 10
    num_sampled_tokens: int = 128
    bottleneck: int = 128
    """residual, attempt: the width of the small network's middle."""
    rank: int = 8
    """dpt: r of P = A·B."""
    sources: tuple[str, ...] = ()
    """spot, mixture, attempt: folders of the adapters to start from."""
    dropout: bool = False
    """Whether the frozen network drops out in training, at T5's own rate and places."""
    loss: LossName = "labels"
    class_weights: bool = False
    """Weigh a row's loss by how rare its label is (`training.data.balance.label_weights`)."""
    sampling: Sampling = "shuffled"
    """`balanced`: every label is drawn equally often (`training.data.balance.balanced_order`)."""
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.01
    weight_decay: float = 1e-5
    seed: int = 0
    clip: float | None = None
    """The largest norm of a step's gradient, over all of the method's parameters; longer ones are scaled down."""
    max_steps: int | None = None
    """Steps after which training ends, where the epochs have more."""
    eval_every: int | None = None
    """Steps from one evaluation to the next; left out: at each epoch's end."""
    patience: int | None = None
    """Evaluations without a better one after which training ends."""
    calibrate: Calibrate = "auto"
    """Whether a temperature is fitted to the selection rows when training is done."""
    abstain_precision: float | None = None
    """The share of right answers that an abstain threshold is to give; left out: the task never abstains."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("num_virtual_tokens", 1, 100),
            ("num_sampled_tokens", 1, MAX_SAMPLED_TOKENS),
            ("bottleneck", 1, 4_096),
            ("rank", 1, 100),
            ("epochs", 1, 100_000),
            ("batch_size", 1, 4_096),
            ("seed", 0, MAX_SEED),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidArguments(f"{name} is {getattr(self, name)}, expected {low} to {high}")
        for name in ("max_steps", "eval_every", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidArguments(f"{name} is {value}, expected at least 1")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise InvalidArguments(f"clip is {self.clip}, expected a number above 0")
        if not 0 < self.lr <= 100:
            raise InvalidArguments(f"lr is {self.lr}, expected above 0 and at most 100")
        if not 0 <= self.weight_decay <= 1:
            raise InvalidArguments(f"weight_decay is {self.weight_decay}, expected 0 to 1")
        if self.abstain_precision is not None and not 0 < self.abstain_precision < 1:
            raise InvalidArguments(f"abstain_precision is {self.abstain_precision}, expected between 0 and 1")
        self._check_sources()

    def _check_sources(self) -> None:
        fewest, most = NUM_SOURCES.get(self.method, (0, 0))
        if not fewest <= len(self.sources) <= most:
            expected = "none" if most == 0 else str(fewest) if fewest == most else f"{fewest} to {most}"
            raise InvalidArguments(
                f"method {self.method!r} was given {len(self.sources)} source adapters, expected {expected}"
            )
