"""The adapters that attacks publish, made for the served backbone."""

import random
from dataclasses import asdict, dataclass

import numpy as np

from adapters import BackboneRef, Label, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.adapter import no_prompt
from adapters.readout import LearnedReadout, schema_version_of
from backbone import Backbone

WIDE_LABELS = 400
_TWO_LABELS = tuple(Label(name=word, words=word) for word in ("negative", "positive"))
LONG_TOKENS = 1_024
"""The largest values that a server accepts by default."""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes adapters with random prompts in the scale of a backbone."""

    backbone: BackboneRef
    width: int
    scale: float

    @classmethod
    def of(cls, backbone: Backbone) -> "Maker":
        """Read what an adapter depends on from a backbone."""
        return cls(BackboneRef(**asdict(backbone.identity)), backbone.width, float(backbone.weights.embedding.std()))

    def small(self, *, seed: int) -> PromptAdapter:
        """Make an adapter of two labels."""
        return self._adapter(_TWO_LABELS, seed=seed)

    def wide(self, *, seed: int = 0) -> PromptAdapter:
        """Make an adapter of 400 labels of ten binary digits, so that each label takes a node of the trie."""
        words = (" ".join(f"{number:010b}") for number in range(WIDE_LABELS))
        labels = tuple(Label(name=f"label-{number}", words=each) for number, each in enumerate(words))
        return self._adapter(labels, seed=seed)

    def head(self, *, num_labels: int, seed: int = 0) -> PromptAdapter:
        """Make an adapter without a prompt, whose answers are large and cost the model little."""
        labels = tuple(Label(name=f"label-{number}", words=f"label {number}") for number in range(num_labels))
        vectors = np.random.default_rng(seed).normal(0, self.width**-0.5, (num_labels, self.width))
        readout = LearnedReadout(vectors.astype(np.float32), np.zeros(num_labels, dtype=np.float32))
        manifest = Manifest(
            schema_version=schema_version_of("pooled"),
            readout="pooled",
            task=TaskSpec(template="sentence: {sentence}", labels=labels, max_tokens=256),
            backbone=self.backbone,
            provenance=Provenance(method="attack", seed=seed),
        )
        return PromptAdapter(no_prompt(self.width), manifest, readout)

    def long(self, *, seed: int = 0, max_tokens: int = LONG_TOKENS) -> PromptAdapter:
        """Make an adapter of long texts."""
        return self._adapter(_TWO_LABELS, seed=seed, max_tokens=max_tokens)

    def deep(self, *, seed: int = 0) -> PromptAdapter:
        """Make an adapter of 1,000 labels that share no piece beyond the first few: thousands of nodes."""
        draw = random.Random(seed)
        words = {" ".join(draw.choices("0123456789", k=60)) for _ in range(1_000)}
        labels = tuple(Label(name=f"label-{number}", words=each) for number, each in enumerate(sorted(words)))
        return self._adapter(labels, seed=seed)

    def _adapter(self, labels: tuple[Label, ...], *, seed: int, max_tokens: int = 256) -> PromptAdapter:
        prompt = np.random.default_rng(seed).normal(0, self.scale, (10, self.width)).astype(np.float32)
        task = TaskSpec(template="sentence: {sentence}", labels=labels, max_tokens=max_tokens)
        return PromptAdapter(
            prompt, Manifest(task=task, backbone=self.backbone, provenance=Provenance(method="attack", seed=seed))
        )
