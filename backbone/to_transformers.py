"""Conversion of a backbone to a `transformers` model, for full fine-tuning, which the packed forward cannot do.

The model computes the same function with other numbers: folded norm weights stay in the next layer, and every norm
starts at 1.
"""

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Block, T5LayerFF

from backbone.backbone import Backbone
from backbone.weights import DecoderLayer, EncoderLayer, FeedForward


def to_transformers(backbone: Backbone) -> T5ForConditionalGeneration:
    """Return a trainable float32 copy on the backbone's device, in evaluation mode, with an untied head."""
    architecture, weights = backbone.architecture, backbone.weights
    config = T5Config(
        vocab_size=architecture.vocab_size,
        d_model=architecture.width,
        d_kv=architecture.head_dim,
        d_ff=architecture.ff_width,
        num_layers=architecture.num_encoder_layers,
        num_decoder_layers=architecture.num_decoder_layers,
        num_heads=architecture.num_heads,
        relative_attention_num_buckets=architecture.relative_buckets,
        relative_attention_max_distance=architecture.relative_max_distance,
        layer_norm_epsilon=architecture.norm_eps,
        feed_forward_proj="gated-gelu" if architecture.gated else architecture.activation,
        tie_word_embeddings=False,
        decoder_start_token_id=architecture.start_id,
        eos_token_id=architecture.eos_id,
        pad_token_id=architecture.pad_id,
    )
    with torch.random.fork_rng(), torch.device(backbone.device):
        model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.shared.weight.copy_(weights.embedding)
        # `transformers` ties the head to the embedding unless a checkpoint unties it
        model.lm_head.weight = torch.nn.Parameter(weights.head * architecture.logit_scale)
        for stack, bias in ((model.encoder, weights.encoder_bias), (model.decoder, weights.decoder_bias)):
            stack.embed_tokens.weight = model.shared.weight
            stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.copy_(bias)
        model.decoder.final_layer_norm.weight.copy_(weights.decoder_norm)
        for block, layer in zip(model.encoder.block, weights.encoder, strict=True):
            _encoder_layer(block, layer)
        for block, decoder_layer in zip(model.decoder.block, weights.decoder, strict=True):
            _decoder_layer(block, decoder_layer)
    return model


def _encoder_layer(block: T5Block, layer: EncoderLayer) -> None:
    attention = block.layer[0].SelfAttention
    for linear, weight in zip((attention.q, attention.k, attention.v), layer.qkv.weight.chunk(3), strict=True):
        linear.weight.copy_(weight)
    attention.o.weight.copy_(layer.out.weight)
    _feed_forward(block.layer[1], layer.feed_forward)


def _decoder_layer(block: T5Block, layer: DecoderLayer) -> None:
    own, cross = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
    for linear, weight in zip((own.q, own.k), layer.query_key.weight.chunk(2), strict=True):
        linear.weight.copy_(weight)
    own.v.weight.copy_(layer.value.weight)
    own.o.weight.copy_(layer.out.weight)
    cross.q.weight.copy_(layer.cross_query.weight)
    cross.k.weight.copy_(layer.cross_key.flatten(0, 1))
    cross.v.weight.copy_(layer.cross_value.transpose(1, 2).flatten(0, 1))
    cross.o.weight.copy_(layer.cross_out.weight)
    _feed_forward(block.layer[2], layer.feed_forward)


def _feed_forward(part: T5LayerFF, layer: FeedForward) -> None:
    dense = part.DenseReluDense
    inner = dense.wi if layer.gate is None else dense.wi_1
    if layer.gate is not None:
        dense.wi_0.weight.copy_(layer.gate.weight)
    inner.weight.copy_(layer.inner.weight)
    dense.wo.weight.copy_(layer.out.weight)
