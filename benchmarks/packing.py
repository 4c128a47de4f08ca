"""The packed forward against `transformers` on the same rows: padded `generate` of two steps, and one decoder step.

`make bench`. Mixed lengths, mixed prompts; variants take turns, so that noise is shared; the medians' ratio is the
result. Prints a table and one JSON line.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import platformdirs
import torch
from rich.table import Table
from transformers import T5ForConditionalGeneration

from backbone import Backbone, PackedRow, load, pack
from cli.output import show

ROUNDS = 7
PROMPT_LENGTH = 10
LABELS = ("negative", "positive")


def main(batch_sizes: tuple[int, ...] = (1, 8, 32)) -> None:
    """Measure each batch size and print the ratios."""
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))
    backbone = load("embedded", cache_dir=cache_dir)
    model = T5ForConditionalGeneration.from_pretrained(cache_dir / "embedded-0.2.0", dtype=torch.float32).eval()
    table = Table("rows", "tokens", "transformers generate ÷ ours", "transformers one step ÷ ours")
    results = []
    for num_rows in batch_sizes:
        lengths = np.random.default_rng(0).integers(8, 96, num_rows)
        token_ids = [tuple(np.random.default_rng(i).integers(3, 32_000, n).tolist()) for i, n in enumerate(lengths)]
        prompts = torch.randn(num_rows, PROMPT_LENGTH, backbone.width) * 13
        ours, generate, one_step = medians(
            packed_forward(backbone, token_ids, prompts),
            padded_generate(model, token_ids, prompts),
            padded_step(model, token_ids, prompts),
        )
        table.add_row(str(num_rows), str(lengths.sum()), f"{generate / ours:.2f}×", f"{one_step / ours:.2f}×")
        results.append({"rows": num_rows, "generate": generate / ours, "one_step": one_step / ours})
    show(table)
    machine = {"torch": torch.__version__, "transformers": version("transformers"), "threads": torch.get_num_threads()}
    print(json.dumps({"ratios": results, "cpu": platform.machine(), **machine}))


def medians(*variants: Callable[[], object]) -> list[float]:
    """Each variant's median seconds, one round of each in turn."""
    times: list[list[float]] = [[] for _ in variants]
    with torch.inference_mode():
        for number in range(ROUNDS + 1):
            for variant, seconds in zip(variants, times, strict=True):
                started = time.perf_counter()
                variant()
                if number:  # the first round warms up
                    seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


def packed_forward(backbone: Backbone, token_ids: list[tuple[int, ...]], prompts: torch.Tensor) -> Callable[[], object]:
    """Ours: rows end to end, label words scored by their trie."""
    table = prompts.flatten(0, 1)  # [B·P, H]
    tries = [backbone.label_trie(LABELS)] * len(token_ids)

    def run() -> object:
        rows = [PackedRow(range(i * PROMPT_LENGTH, (i + 1) * PROMPT_LENGTH), ids) for i, ids in enumerate(token_ids)]
        return backbone.score(backbone.encode(pack(rows), table), tries)

    return run


def padded(
    model: T5ForConditionalGeneration, token_ids: list[tuple[int, ...]], prompts: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The same rows as `transformers` takes them: one rectangle, each prompt before its text, padding behind."""
    longest = max(map(len, token_ids))
    ids = torch.zeros(len(token_ids), longest, dtype=torch.int64)
    mask = torch.zeros(len(token_ids), PROMPT_LENGTH + longest, dtype=torch.int64)
    for i, row in enumerate(token_ids):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : PROMPT_LENGTH + len(row)] = 1
    return {"inputs_embeds": torch.cat([prompts, model.shared(ids)], 1), "attention_mask": mask}


def padded_generate(
    model: T5ForConditionalGeneration, token_ids: list[tuple[int, ...]], prompts: torch.Tensor
) -> Callable[[], object]:
    """What a fair plain server does: greedy generation of a label word and its end."""
    return lambda: model.generate(**padded(model, token_ids, prompts), max_new_tokens=2, do_sample=False)


def padded_step(
    model: T5ForConditionalGeneration, token_ids: list[tuple[int, ...]], prompts: torch.Tensor
) -> Callable[[], object]:
    """The cheapest plain way: one decoder position."""
    start = torch.zeros(len(token_ids), 1, dtype=torch.int64)
    return lambda: model(**padded(model, token_ids, prompts), decoder_input_ids=start)


if __name__ == "__main__":
    sys.exit(main())
