"""The adapters that attacks publish, made for the served backbone."""

from dataclasses import asdict, dataclass

import numpy as np

from adapters import BackboneRef, Label, Manifest, PromptAdapter, Provenance, TaskSpec
from backbone import Backbone

WIDE_LABELS = 800
LONG_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes adapters with random prompts in the scale of a backbone."""

    backbone: BackboneRef
    width: int
    scale: float

    @classmethod
    def of(cls, backbone: Backbone) -> "Maker":
        """Read what adapters need to know of a backbone."""
        return cls(BackboneRef(**asdict(backbone.identity)), backbone.width, float(backbone.weights.embedding.std()))

    def small(self, *, seed: int) -> PromptAdapter:
        """Make an adapter of two labels."""
        labels = (Label(name="negative", words="negative"), Label(name="positive", words="positive"))
        return self._adapter(labels, seed=seed)

    def wide(self, *, seed: int = 0) -> PromptAdapter:
        """Make an adapter of 800 labels, whose words share their first pieces."""
        labels = tuple(Label(name=f"label-{number}", words=str(number)) for number in range(1_000, 1_000 + WIDE_LABELS))
        return self._adapter(labels, seed=seed)

    def long(self, *, seed: int = 0) -> PromptAdapter:
        """Make an adapter that takes texts of 4,096 tokens."""
        labels = (Label(name="negative", words="negative"), Label(name="positive", words="positive"))
        return self._adapter(labels, seed=seed, max_tokens=LONG_TOKENS)

    def _adapter(self, labels: tuple[Label, ...], *, seed: int, max_tokens: int = 256) -> PromptAdapter:
        prompt = np.random.default_rng(seed).normal(0, self.scale, (10, self.width)).astype(np.float32)
        task = TaskSpec(template="sentence: {sentence}", labels=labels, max_tokens=max_tokens)
        return PromptAdapter(
            prompt, Manifest(task=task, backbone=self.backbone, provenance=Provenance(method="attack", seed=seed))
        )
