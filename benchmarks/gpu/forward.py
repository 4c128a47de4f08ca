"""Engine on CUDA in bf16: rows per second against `transformers` in bf16, and the share of the device's peak.

Needs a CUDA device and exits with a message otherwise. For 1 to 1,024 rows of mixed lengths, alternately:

- `rows{n}_bf16_vs_generate2`, `rows{n}_bf16_vs_one_step`: seconds of `transformers` (padded) ÷ ours, the same rows.
- `rows{n}_bf16_mfu`: necessary multiply-adds of the forward per second ÷ those of the fastest bf16 matrix product.

Superpos launches kernels one by one, without CUDA graphs, so that small batches are limited by the host.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import platformdirs
import torch
import typer
from rich.table import Table
from transformers import T5ForConditionalGeneration

from backbone import PackedRow, embedded, load, pack
from benchmarks.common.report import print_result
from benchmarks.engine.checks import needed_flops
from benchmarks.engine.variants import LABELS, PROMPT_LENGTH, padded
from cli.backbone_options import CacheOption
from cli.console import err, print_table

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="The same figures from fewer rounds.")] = False,
    cache_dir: CacheOption = None,
) -> None:
    if not torch.cuda.is_available():
        err.print("no CUDA device: this benchmark was not run", style="red")
        raise typer.Exit(1)
    cache = cache_dir or platformdirs.user_cache_path("superpos")
    folder = embedded.prepare(cache, err.print)
    backbone = load("embedded", cache_dir=cache, device="cuda", precision="bf16")
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval().cuda()
    peak = bf16_peak()
    figures: dict[str, float] = {}
    table = Table("rows", "generate ÷ ours", "one step ÷ ours", "share of peak")
    for num_rows in (1, 8, 32, 128, 512, 1_024):
        lengths = np.random.default_rng(num_rows).integers(8, 96, num_rows)
        token_ids = [
            np.random.default_rng(i).integers(3, 32_000, PROMPT_LENGTH + n).tolist() for i, n in enumerate(lengths)
        ]
        rows = [PackedRow(ids[:PROMPT_LENGTH], ids[PROMPT_LENGTH:]) for ids in token_ids]
        tries = [backbone.label_trie(LABELS)] * num_rows
        inputs = {name: value.cuda() for name, value in padded(token_ids).items()}
        start = torch.zeros(num_rows, 1, dtype=torch.int64, device="cuda")
        ours, generate, one_step = medians(
            [
                lambda rows=rows, tries=tries: backbone.score(
                    backbone.encode(pack(rows, device=backbone.device), backbone.weights.embedding), tries
                ),
                lambda inputs=inputs: model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False),
                lambda inputs=inputs, start=start: model(**inputs, decoder_input_ids=start),
            ],
            rounds=5 if quick else 25,
        )
        share = needed_flops(folder, token_ids) / ours / peak
        figures |= {
            f"rows{num_rows}_bf16_vs_generate2": generate / ours,
            f"rows{num_rows}_bf16_vs_one_step": one_step / ours,
            f"rows{num_rows}_bf16_mfu": share,
        }
        table.add_row(str(num_rows), f"{generate / ours:.2f}", f"{one_step / ours:.2f}", f"{share:.2f}")
    print_table(table)
    print_result("gpu", {name: float(f"{value:.4g}") for name, value in figures.items()})


def bf16_peak() -> float:
    """Measure floating-point operations per second of the largest square product in bf16."""
    size = 8_192
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / medians([lambda: left @ right], rounds=10)[0]


@torch.inference_mode()
def medians(variants: Sequence[Callable[[], object]], *, rounds: int) -> list[float]:
    """Measure each variant's median seconds until the device is idle, alternately, without the first round."""
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds + 1):
        for variant, seconds in zip(variants, times, strict=True):
            torch.cuda.synchronize()
            started = time.perf_counter()
            variant()
            torch.cuda.synchronize()
            if number:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


if __name__ == "__main__":
    app()
