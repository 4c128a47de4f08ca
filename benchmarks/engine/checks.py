"""Further measurements of `benchmarks/engine`: the machine's peak, many labels, precisions against fp32."""

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from rich.table import Table
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from adapters.adapter import PromptAdapter
from adapters.files import bundled_adapters, from_files
from backbone import Backbone, PackedRow, load, pack
from backbone.precision import Precision, cpu_has_bf16
from backbone.readout import Readout
from benchmarks.common.report import ROOT
from cli.console import err, print_table
from training.data.examples import Example, read_examples
from training.readouts.trained import adapter_readout
from training.task.task_file import load_task_file

_TOP_K = 5


def gemm_peak(dtype: torch.dtype = torch.float32) -> float:
    """Measure operations per second (2 per multiply-add) of the fastest matrix product, over shapes and libraries."""
    best = 0.0
    with torch.inference_mode():
        for rows, inner, outer in (
            (256, 512, 1_024),
            (2_048, 512, 2_048),
            (2_048, 1_024, 512),
            (2_048, 2_048, 2_048),
            (1_024, 768, 3_072),
        ):
            x, weight = torch.randn(rows, inner).to(dtype), torch.randn(outer, inner).to(dtype)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            kernels: list[Callable[[], object]] = [
                lambda x=x, weight=weight: F.linear(x, weight),
                lambda x=x, packed=packed: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""),
            ]
            for kernel in kernels:
                best = max(best, 2 * rows * inner * outer / min(_times(kernel, 12)))
    return best


def needed_flops(folder: Path, token_ids: Sequence[Sequence[int]]) -> float:
    """Return the operations of one forward over rows with two one-piece labels: products only, 2 per multiply-add."""
    config = T5Config.from_pretrained(folder)
    width, attention = config.d_model, config.num_heads * config.d_kv
    feed_forward = (3 if config.is_gated_act else 2) * width * config.d_ff
    lengths = [len(ids) for ids in token_ids]
    encoder = config.num_layers * sum(
        length * (4 * width * attention + feed_forward) + 2 * length * length * attention for length in lengths
    )
    # a single node: value and output; query; keys and values on its side, once per row; scores and mixture
    decoder = config.num_decoder_layers * sum(
        2 * width * attention + 4 * width * attention + feed_forward + 2 * length * config.num_heads * width
        for length in lengths
    )
    return 2.0 * (encoder + decoder)


def labels77_vs_2(folder: Path, *, rounds: int) -> float:
    """Measure the time of 32 rows with the best five of 77 labels ÷ the time with two labels, alternately."""
    backbone = load(str(folder), cache_dir=folder)
    data = os.environ.get("SUPERPOS_DATA")
    words = json.loads((Path(data) / "banking77/labels.json").read_text()) if data else _made_up_labels()
    words = [name.replace("_", " ") for name in words]
    tries = [backbone.label_trie(words)] * 32, [backbone.label_trie(("negative", "positive"))] * 32
    prompt = torch.from_numpy(from_files(bundled_adapters()["trec"]).prompt.copy())
    texts = backbone.tokenizer.tokenize(
        [f"Why was my {word} not there when I looked for it today?" for word in words[:32]],
        max_tokens=64,
        truncation="error",
    )
    packed = pack([PackedRow(range(len(prompt)), text.token_ids) for text in texts])

    def run(trie: int, top_k: Sequence[int | None]) -> None:
        backbone.score(backbone.encode(packed, prompt), tries[trie], top_k=top_k)

    with torch.inference_mode():
        many, two = _in_turns([lambda: run(0, [_TOP_K] * 32), lambda: run(1, [None] * 32)], rounds)
    return many / two


def _made_up_labels() -> list[str]:
    subjects = ("card", "transfer", "top up", "exchange rate", "refund", "identity", "account")
    states = (
        "pending",
        "failed",
        "lost",
        "late",
        "fee",
        "limit",
        "wrong amount",
        "not shown",
        "cancelled",
        "help",
        "age",
    )
    return [f"{subject} {state}" for subject in subjects for state in states]


def agreement(folder: Path, cache_dir: Path, *, rows: int | None) -> dict[str, float]:
    """Measure agreement of int8 (and bf16 if the CPU has it) with fp32, and the loss of accuracy, for the worst task.

    On validation rows of every bundled task that has some, or on the first ones.
    """
    if not os.environ.get("SUPERPOS_DATA"):
        err.print("SUPERPOS_DATA is not set: int8 is not compared on real rows", style="yellow")
        return {}
    names: tuple[Precision, ...] = ("fp32", "int8", *(("bf16",) if cpu_has_bf16() else ()))
    backbones = {name: load(str(folder), cache_dir=cache_dir, precision=name) for name in names}
    table = Table("task", "rows", "precision", "accuracy", "label agreement", "max |Δ log p|")
    agreements: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    for task, files in track(bundled_adapters().items(), console=err):
        adapter = from_files(files)
        file = load_task_file(ROOT / f"examples/tasks/{task}.yaml", variables=os.environ)
        if file.data.validation is None:
            continue
        examples = read_examples(Path(os.environ["SUPERPOS_DATA"]) / task / "validation.parquet", file).examples
        examples = examples[:: max(1, len(examples) // rows)][:rows] if rows else examples
        scores = {name: _scores(backbone, adapter, examples) for name, backbone in backbones.items()}
        labels = torch.tensor([example.label for example in examples])
        for name, each in scores.items():
            same = float((each.argmax(1) == scores["fp32"].argmax(1)).float().mean())
            right, right_fp32 = (float((x.argmax(1) == labels).float().mean()) for x in (each, scores["fp32"]))
            agreements[name].append(same)
            losses[name].append(100 * (right_fp32 - right))
            known = torch.isfinite(each)
            difference = float((each - scores["fp32"])[known].abs().max())
            table.add_row(task, str(len(examples)), name, f"{right:.4f}", f"{same:.4f}", f"{difference:.2f}")
    print_table(table)
    return {f"{name}_label_agreement_min": min(agreements[name]) for name in names[1:]} | {
        f"{name}_accuracy_loss_points_max": max(losses[name]) for name in names[1:]
    }


def _scores(backbone: Backbone, adapter: PromptAdapter, examples: Sequence[Example]) -> Tensor:
    """Return label log-probabilities [n, K], 16 rows at a time."""
    texts = backbone.tokenizer.tokenize(
        [example.text for example in examples], max_tokens=adapter.spec.max_tokens, truncation="end"
    )
    prompt, readout = torch.from_numpy(adapter.prompt.copy()), adapter_readout(backbone, adapter)
    ids = [text.token_ids for text in texts]
    return torch.cat([_score(backbone, prompt, ids[i : i + 16], readout) for i in range(0, len(ids), 16)])


@torch.inference_mode()
def _score(backbone: Backbone, prompt: Tensor, token_ids: Sequence[Sequence[int]], readout: Readout) -> Tensor:
    rows = [PackedRow(range(len(prompt)), ids) for ids in token_ids]
    return backbone.score(backbone.encode(pack(rows), prompt), [readout] * len(rows))


def write_base_model(folder: Path, tokenizer_from: Path) -> Path:
    """Write a T5 v1.1 of base size with random weights and the tokenizer of the embedded one."""
    config = T5Config(
        d_model=768, d_ff=2_048, num_layers=12, num_heads=12, feed_forward_proj="gated-gelu", decoder_start_token_id=0
    )
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_from / name, folder / name)
    return folder


def _times(run: Callable[[], object], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return found


def _in_turns(variants: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    times: list[list[float]] = [[] for _ in variants]
    for number in range(rounds + 1):
        for variant, seconds in zip(variants, times, strict=True):
            lasted = _times(variant, 1)
            if number:  # the first round warms up
                seconds.extend(lasted)
    return [statistics.median(seconds) for seconds in times]
