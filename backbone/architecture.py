"""Dimensions and constants of a T5, read from a `transformers` config and checked once."""

from dataclasses import dataclass
from typing import Literal, cast

from transformers import T5Config

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
    def of(cls, config: T5Config) -> "Architecture":
        """Read a `transformers` config.

        Raises:
            UnsupportedBackbone: the activation or a special token is not T5's.
        """
        if config.dense_act_fn not in ("relu", "gelu_new"):
            raise UnsupportedBackbone(
                f"feed_forward_proj is {config.feed_forward_proj!r}, expected 'relu' or 'gated-gelu'"
            )
        start, eos, pad = config.decoder_start_token_id, config.eos_token_id, config.pad_token_id
        pad = 0 if pad is None else pad
        start = pad if start is None else start
        if not isinstance(eos, int):
            raise UnsupportedBackbone(f"eos_token_id is {eos!r}, expected one integer")
        return cls(
            width=config.d_model,
            num_heads=config.num_heads,
            head_dim=config.d_kv,
            num_encoder_layers=config.num_layers,
            num_decoder_layers=cast(int, config.num_decoder_layers),
            ff_width=config.d_ff,
            activation=cast(Activation, config.dense_act_fn),
            gated=config.is_gated_act,
            vocab_size=config.vocab_size,
            relative_buckets=config.relative_attention_num_buckets,
            relative_max_distance=config.relative_attention_max_distance,
            norm_eps=config.layer_norm_epsilon,
            logit_scale=config.d_model**-0.5 if config.scale_decoder_outputs else 1.0,
            start_id=start,
            eos_id=eos,
            pad_id=pad,
        )
