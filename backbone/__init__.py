"""The frozen T5: weights, tokenizer, packed forward, label scoring. Knows nothing of adapters, training or HTTP."""

from backbone.backbone import Backbone, BackboneId, Encoded
from backbone.errors import (
    BackboneCacheError,
    BackboneError,
    BackboneNotFound,
    DeviceUnavailable,
    InvalidLabels,
    TextTooLong,
    UnsupportedBackbone,
)
from backbone.loading import EMBEDDED, load
from backbone.packing import PackedBatch, PackedRow, pack
from backbone.text import TextTokenizer, TokenizedText, Truncation
from backbone.trie import LabelTrie

__all__ = [
    "EMBEDDED",
    "Backbone",
    "BackboneCacheError",
    "BackboneError",
    "BackboneId",
    "BackboneNotFound",
    "DeviceUnavailable",
    "Encoded",
    "InvalidLabels",
    "LabelTrie",
    "PackedBatch",
    "PackedRow",
    "TextTokenizer",
    "TextTooLong",
    "TokenizedText",
    "Truncation",
    "UnsupportedBackbone",
    "load",
    "pack",
]
