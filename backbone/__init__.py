"""The frozen T5: loading, tokenizer, packed forward and label scoring, for serving and for training.

`load` returns a `Backbone`; `pack` lays rows end to end; `Backbone.encode` and `Backbone.score` compute label
log-probabilities. The package does not know adapters, training methods or HTTP.
"""

from backbone.backbone import Backbone, BackboneId, Encoded
from backbone.dropout import Dropout
from backbone.errors import (
    BackboneCacheError,
    BackboneError,
    BackboneNotFound,
    DeviceUnavailable,
    InvalidLabels,
    NoRoomForFields,
    TextTooLong,
    UnsupportedBackbone,
)
from backbone.framing import PLAIN, Frame, FramedText
from backbone.loading import EMBEDDED, load
from backbone.packing import PackedBatch, PackedRow, RowSpan, divide, pack
from backbone.precision import (
    TOLERANCES,
    Precision,
    check_device,
    device_named,
    fastest_for_serving,
    fastest_for_training,
    reduced_precisions,
)
from backbone.readout import Activation, LabelVectors, LearnedState, Readout
from backbone.scoring import label_log_probs
from backbone.text import NOTABLE_UNKNOWN_SHARE, TextTokenizer, TokenizedText, Truncation
from backbone.trie import LabelTrie, chain

__all__ = [
    "EMBEDDED",
    "NOTABLE_UNKNOWN_SHARE",
    "PLAIN",
    "TOLERANCES",
    "Activation",
    "Backbone",
    "BackboneCacheError",
    "BackboneError",
    "BackboneId",
    "BackboneNotFound",
    "DeviceUnavailable",
    "Dropout",
    "Encoded",
    "Frame",
    "FramedText",
    "InvalidLabels",
    "LabelTrie",
    "LabelVectors",
    "LearnedState",
    "NoRoomForFields",
    "PackedBatch",
    "PackedRow",
    "Precision",
    "Readout",
    "RowSpan",
    "TextTokenizer",
    "TextTooLong",
    "TokenizedText",
    "Truncation",
    "UnsupportedBackbone",
    "chain",
    "check_device",
    "device_named",
    "divide",
    "fastest_for_serving",
    "fastest_for_training",
    "label_log_probs",
    "load",
    "pack",
    "reduced_precisions",
]
