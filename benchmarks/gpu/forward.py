"""The engine's forward: rows per second, the share of the device's peak, and `transformers` on the same rows.

For 1 to 1,024 rows of mixed lengths, alternately:

- `rows{n}_rows_per_s`: rows per second of the packed forward with two labels
- `rows{n}_vs_generate2`, `rows{n}_vs_one_step`: seconds of `transformers` (padded) ÷ ours, the same rows
- `rows{n}_mfu`: necessary operations of the forward per second ÷ those of the fastest matrix product
- `rows{n}_flex_vs_sdpa`: seconds of ours with the default attention ÷ with `attention="flex"`

On CUDA in bf16. Kernels are launched one by one, without CUDA graphs, so that small batches are limited by the host.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.table import Table
from transformers import T5ForConditionalGeneration

from backbone import PackedRow, load, pack
from backbone.encoder import ATTENTIONS
from benchmarks.engine.checks import needed_flops
from benchmarks.engine.variants import LABELS, PROMPT_LENGTH, padded
from benchmarks.gpu.part import Measured, Setup, run_part
from cli.console import print_table

SIZES, QUICK_SIZES = (1, 8, 32, 128, 512, 1_024), (2,)
PEAK_SIZE, QUICK_PEAK_SIZE = 8_192, 512
"""Rows and columns of the matrices whose product is the peak."""
ROUNDS, QUICK_ROUNDS = 25, 1


def measure(setup: Setup) -> Measured:
    """Return the figures of every number of rows."""
    device = torch.device(setup.device)
    dtype = torch.float32 if setup.precision == "fp32" else torch.bfloat16
    ours = [
        load("embedded", cache_dir=setup.cache_dir, device=setup.device, precision=setup.precision, attention=attention)
        for attention in ATTENTIONS
    ]
    model = T5ForConditionalGeneration.from_pretrained(setup.folder, dtype=dtype).eval().to(device)
    peak = matrix_peak(QUICK_PEAK_SIZE if setup.quick else PEAK_SIZE, device, dtype)
    figures: dict[str, float] = {"peak_tflops": peak / 1e12}
    table = Table("rows", "rows/s", "generate ÷ ours", "one step ÷ ours", "share of peak", "sdpa ÷ flex")
    for num_rows in QUICK_SIZES if setup.quick else SIZES:
        token_ids = _token_ids(num_rows)
        rows = [PackedRow(ids[:PROMPT_LENGTH], ids[PROMPT_LENGTH:]) for ids in token_ids]
        inputs = {name: value.to(device) for name, value in padded(token_ids).items()}
        start = torch.zeros(num_rows, 1, dtype=torch.int64, device=device)
        sdpa, flex, generate, one_step = medians(
            [
                *(
                    lambda rows=rows, backbone=backbone: backbone.score(
                        backbone.encode(pack(rows, device=device), backbone.weights.embedding),
                        [backbone.label_trie(LABELS)] * len(rows),
                    ).cpu()
                    for backbone in ours
                ),
                lambda inputs=inputs: model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False),
                lambda inputs=inputs, start=start: model(**inputs, decoder_input_ids=start),
            ],
            rounds=QUICK_ROUNDS if setup.quick else ROUNDS,
            device=device,
        )
        share = needed_flops(setup.folder, token_ids) / sdpa / peak
        figures |= {
            f"rows{num_rows}_rows_per_s": num_rows / sdpa,
            f"rows{num_rows}_vs_generate2": generate / sdpa,
            f"rows{num_rows}_vs_one_step": one_step / sdpa,
            f"rows{num_rows}_mfu": share,
            f"rows{num_rows}_flex_vs_sdpa": sdpa / flex,
        }
        values = (generate / sdpa, one_step / sdpa, share, sdpa / flex)
        table.add_row(str(num_rows), f"{num_rows / sdpa:.0f}", *(f"{value:.3g}" for value in values))
    print_table(table)
    return Measured(figures=figures, detail={"precision": setup.precision})


def _token_ids(num_rows: int) -> list[list[int]]:
    lengths = np.random.default_rng(num_rows).integers(8, 96, num_rows)
    return [np.random.default_rng(i).integers(3, 32_000, PROMPT_LENGTH + n).tolist() for i, n in enumerate(lengths)]


def matrix_peak(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Measure floating-point operations per second of a square product."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / medians([lambda: left @ right], rounds=10, device=device)[0]


@torch.inference_mode()
def medians(variants: Sequence[Callable[[], object]], *, rounds: int, device: torch.device) -> list[float]:
    """Measure each variant's median seconds until the device is idle, alternately, without the first round."""
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds + 1):
        for variant, seconds in zip(variants, times, strict=True):
            _wait(device)
            started = time.perf_counter()
            variant()
            _wait(device)
            if number:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


def _wait(device: torch.device) -> None:
    """Wait until the device is idle; a CPU computes before a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    run_part(measure)
