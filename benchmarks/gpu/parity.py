"""Label log-probabilities of the packed forward against `transformers`, both on the device under test.

`transformers` computes each row alone and decodes each label word separately. In bf16, both are also compared with
`transformers` in fp32: a difference between two bf16 results does not say whose error it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor
from transformers import T5ForConditionalGeneration

from backbone import PackedRow, Precision, load, pack, reduced_precisions
from backbone.encoder import ATTENTIONS, Attention
from benchmarks.common import workload
from benchmarks.gpu.part import Measured, Setup, run_part
from cli.console import print_table
from verification.reference import reference_log_probs

ROWS, QUICK_ROWS = 64, 1
"""Rows per task."""
_DTYPES: Mapping[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Tensor  # [P, H] float32
    token_ids: tuple[int, ...]
    labels: tuple[str, ...]
    words: list[list[int]]
    """Label words as token ids, end-of-sequence included."""


def measure(setup: Setup) -> Measured:
    """Return largest differences and label agreement by precision and way of attention."""
    rows = _rows(QUICK_ROWS if setup.quick else ROWS, setup.cache_dir)
    exact = _by_transformers(setup, "fp32", rows)
    figures: dict[str, float] = {}
    table = Table("precision", "log p of", "compared with", "max |Δ log p|", "label agreement")

    def compare(name: str, ours: Sequence[Tensor], against: str, theirs: Sequence[Tensor]) -> None:
        difference = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
        agreement = sum(int(a.argmax() == b.argmax()) for a, b in zip(ours, theirs, strict=True)) / len(rows)
        figures[f"{name}_vs_{against}_max_difference"] = difference
        figures[f"{name}_vs_{against}_label_agreement"] = agreement
        table.add_row(*name.split("_"), f"transformers in {against}", f"{difference:.2g}", f"{agreement:.4f}")

    for attention in ATTENTIONS:
        compare(f"fp32_{attention}", _by_us(setup, "fp32", attention, rows), "fp32", exact)
    if "bf16" in reduced_precisions(torch.device(setup.device)):
        theirs = _by_transformers(setup, "bf16", rows)
        compare("bf16_transformers", theirs, "fp32", exact)
        for attention in ATTENTIONS:
            ours = _by_us(setup, "bf16", attention, rows)
            compare(f"bf16_{attention}", ours, "bf16", theirs)
            compare(f"bf16_{attention}", ours, "fp32", exact)
    print_table(table)
    return Measured(figures=figures, detail={"rows": len(rows)})


def _rows(per_task: int, cache_dir: Path) -> list[_Row]:
    backbone = load("embedded", cache_dir=cache_dir)
    adapters = workload.originals()
    items = workload.texts({task: adapter.spec for task, adapter in adapters.items()}, limit=per_task).items
    rows = []
    for task, adapter in adapters.items():
        spec, prompt = adapter.spec, torch.from_numpy(adapter.prompt.copy())
        texts = [spec.render(item) for item in items[task][:per_task]]
        words = [[*pieces, backbone.architecture.eos_id] for pieces in backbone.tokenizer.pieces(spec.label_words)]
        for text in backbone.tokenizer.tokenize(texts, max_tokens=spec.max_tokens, truncation="end"):
            rows.append(_Row(prompt, tuple(text.token_ids), spec.label_words, words))
    return rows


@torch.inference_mode()
def _by_us(setup: Setup, precision: Precision, attention: Attention, rows: Sequence[_Row]) -> list[Tensor]:
    """Return each row's [K] log-probabilities from one batch of all rows."""
    backbone = load(
        "embedded", cache_dir=setup.cache_dir, device=setup.device, precision=precision, attention=attention
    )
    starts = accumulate((len(row.prompt) for row in rows), initial=0)
    packed = pack(
        [
            PackedRow(range(start, start + len(row.prompt)), row.token_ids)
            for start, row in zip(starts, rows, strict=False)
        ],
        device=backbone.device,
    )
    table = torch.cat([row.prompt for row in rows]).to(backbone.device)
    scores = backbone.score(backbone.encode(packed, table), [backbone.label_trie(row.labels) for row in rows]).cpu()
    return [score[: len(row.labels)] for score, row in zip(scores, rows, strict=True)]


@torch.inference_mode()
def _by_transformers(setup: Setup, precision: Precision, rows: Sequence[_Row]) -> list[Tensor]:
    """Return each row's [K] log-probabilities, computed alone."""
    dtype = _DTYPES[precision]
    model = T5ForConditionalGeneration.from_pretrained(setup.folder, dtype=dtype).eval().to(setup.device)
    return [
        reference_log_probs(model, row.prompt.to(setup.device, dtype), row.token_ids, row.words).cpu() for row in rows
    ]


if __name__ == "__main__":
    run_part(measure)
