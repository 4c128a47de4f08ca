"""Dimensions and constants of a T5, read from a `transformers` config and checked once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from backbone.errors import UnsupportedBackbone

Activation = Literal["relu", "gelu_new"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """Dimensions and constants of one T5 (v1.0, v1.1, Flan or LM-adapted)."""

    width: int
    num_heads: int
    head_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    ff_width: int
    activation: Activation
    gated: bool
    vocab_size: int
    relative_buckets: int
    relative_max_distance: int
    norm_eps: float
    logit_scale: float
    """Factor of the last hidden state before the head: H^-0.5 if the head is tied, else 1."""
    start_id: int
    eos_id: int
    pad_id: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read a T5's `config.json`.

        Raises:
            UnsupportedBackbone: the activation or a special token is not T5's
        """
        projection = str(config.get("feed_forward_proj", "relu"))
        # as T5Config reads it
        activation = "gelu_new" if projection == "gated-gelu" else projection.rpartition("-")[2]
        if activation not in ("relu", "gelu_new"):
            raise UnsupportedBackbone(f"feed_forward_proj is {projection!r}, expected 'relu' or 'gated-gelu'")
        eos = config.get("eos_token_id", 1)
        if not isinstance(eos, int):
            raise UnsupportedBackbone(f"eos_token_id is {eos!r}, expected one integer")
        pad = config.get("pad_token_id") or 0
        start = config.get("decoder_start_token_id")
        # as T5Config has it: v1.1 is known by `tie_word_embeddings: false`
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
        return cls(
            width=config["d_model"],
            num_heads=config["num_heads"],
            head_dim=config["d_kv"],
            num_encoder_layers=config["num_layers"],
            num_decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
            ff_width=config["d_ff"],
            activation=cast(Activation, activation),
            gated=projection.startswith("gated-"),
            vocab_size=config["vocab_size"],
            relative_buckets=config.get("relative_attention_num_buckets", 32),
            relative_max_distance=config.get("relative_attention_max_distance", 128),
            norm_eps=config.get("layer_norm_epsilon", 1e-6),
            logit_scale=config["d_model"] ** -0.5 if scaled else 1.0,
            start_id=pad if start is None else start,
            eos_id=eos,
            pad_id=pad,
        )
