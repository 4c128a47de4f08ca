"""Tiny T5s made on the spot, and rows to run through a backbone."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from backbone import Backbone, PackedRow
from support.adapters import make_adapter

LABEL_SETS = [
    ["negative", "positive"],
    ["world", "world news", "world science", "sports"],
    ["0.0", "0.2", "0.4", "1", "1 2"],
    ["yes", "no", "yes or no"],
]


TEXTS = [
    "a gripping film",
    "flat and overlong " * 7,
    "which city is the capital of France ?",
    "x",
    "the quick brown fox jumps over the lazy dog",
]


_CORPUS = [
    "sentence: a gripping film that is positive and never negative",
    "text: the world of sports and business and science news",
    "premise: it rains hypothesis: it is wet yes or no",
    "question: which city is the capital of France ?",
    "flat and overlong , the quick brown fox jumps over the lazy dog 0123456789",
]


def make_tokenizer(folder: Path) -> int:
    """Train a small sentencepiece-like tokenizer into a folder; its vocabulary's size comes back.

    The trainer gives the same pieces in another order in each process, and with them every token another id. They are
    put in one order, so that a test computes the same numbers in every run.
    """
    special_tokens = ["<pad>", "</s>", "<unk>"]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special_tokens, unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(_CORPUS * 20, trainer)
    scores = {piece: round(score, 3) for piece, score in json.loads(trained.to_str())["model"]["vocab"]}
    learned = sorted(
        (piece for piece in scores if piece not in special_tokens), key=lambda piece: (-scores[piece], piece)
    )
    vocabulary = [(piece, scores[piece]) for piece in [*special_tokens, *learned]]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special_tokens.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(special_tokens)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def make_t5(folder: Path, *, gated: bool, width: int = 32, seed: int = 0, **changes: object) -> Path:
    """A tiny T5 in `transformers`' format: v1.1 (gated, untied head) or v1.0 (relu, tied head)."""
    vocab_size = make_tokenizer(folder)
    torch.manual_seed(seed)
    config = T5Config(
        **{
            "vocab_size": vocab_size + 5,
            "d_model": width,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 3,
            "feed_forward_proj": "gated-gelu" if gated else "relu",
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            **changes,
        },
        **({"tie_word_embeddings": False} if gated else {}),
    )
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        if gated:  # as in Google's v1.1 checkpoints: a head of its own, the embedding tables one
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    return folder


def mixed_rows(backbone: Backbone) -> tuple[list[PackedRow], Tensor, list[list[str]]]:
    """Rows of different texts, prompts of different lengths, label sets of different depth."""
    lengths = [10, 1, 20, 100, 3]
    prompts = [
        torch.from_numpy(make_adapter(backbone, seed=seed, num_virtual_tokens=length).prompt.copy())
        for seed, length in enumerate(lengths)
    ]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    texts = backbone.tokenizer.tokenize(TEXTS, max_tokens=512, truncation="error")
    rows = [
        PackedRow(range(start, start + length), text.token_ids)
        for start, length, text in zip(starts, lengths, texts, strict=True)
    ]
    return rows, torch.cat(prompts), [LABEL_SETS[i % len(LABEL_SETS)] for i in range(len(rows))]
