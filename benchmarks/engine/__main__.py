"""Our forward against other engines with the same T5, each in its own process, running alternately.

- `mixed32_fp32_vs_generate2`, `mixed8_…`, `single_…`: seconds of `transformers`' `generate` with two steps (padded:
  what a fair plain server does) ÷ seconds of ours, on 32, 8, 1 rows of 18 to 105 tokens.
- `…_vs_ctranslate2`, `…_int8_vs_ctranslate2_int8`: the same against CTranslate2, the fastest plain T5. It has no soft
  prompts: it reads the same number of tokens instead.
- `mixed32_fp32_peak_fraction`: necessary multiply-adds of the forward per second ÷ the largest rate of a matrix product
  on this machine (best of several shapes and of MKL and oneDNN, measured alternately).
- `mixed32_bf16_peak_fraction`: the same in bf16, by the largest rate of a product in bf16, if the CPU has it.
- `mixed32_best_vs_best_peer`, `mixed8_…`, `single_…`: seconds of the fastest peer in any precision ÷ seconds of ours in
  the fastest precision whose label agreement is at least 0.98 (SUPERPOS_DATA).
- `max_difference_one_step`: of log-probabilities, ours from `transformers` in fp32.
- `int8_label_agreement_min`, `int8_accuracy_loss_points_max`: int8 against fp32 on the validation rows of every bundled
  task, the worst task (SUPERPOS_DATA; `--quick` takes 200 rows per task). `bf16_…`: the same if the CPU has bf16.
- `labels77_vs_2`: seconds of 32 rows with the best 5 of banking77's labels ÷ with two labels; the prompt is not trained
  for them, so that the search visits more of the trie than usual.

Peers run in the interpreter of --peers-python (`make bench-peers` creates it); without it they are skipped.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import platformdirs
import torch
import typer
from rich.progress import Progress
from rich.table import Table

from backbone import embedded
from backbone.precision import cpu_has_bf16
from benchmarks.common.process import SETTLE_S, EngineProcess, start
from benchmarks.common.report import print_result
from benchmarks.engine.checks import agreement, gemm_peak, labels77_vs_2, needed_flops, write_base_model
from benchmarks.engine.variants import PROMPT_LENGTH
from cli.console import err, print_table

OURS = ("superpos_fp32", "superpos_int8", *(("superpos_bf16",) if cpu_has_bf16() else ()))
WORKER = "benchmarks.engine.worker"
LOCAL = (*OURS, "generate2", "one_step")
MIN_AGREEMENT = 0.98
PEERS = ("ctranslate2_fp32", "ctranslate2_int8", "onnxruntime_fp32", "onnxruntime_int8")

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


def workloads(*, quick: bool) -> dict[str, list[list[int]]]:
    """Token ids by workload: mixed lengths like GLUE's, and uniform ones; lengths include the prompt."""
    found = {f"mixed{rows}": _rows(np.random.default_rng(rows).integers(8, 96, rows)) for rows in (1, 8, 32)}
    found["mixed1"] = _rows([32])
    if not quick:
        found |= {f"uniform{length}": _rows([length] * 32) for length in (16, 32, 64, 128)}
    return found


def _rows(lengths: Sequence[int]) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [[*random.integers(3, 32_000, PROMPT_LENGTH + length - 1).tolist(), 1] for length in lengths]


@app.command(help=__doc__)
def main(
    quick: Annotated[bool, typer.Option("--quick", help="The same figures in a few minutes.")] = False,
    base: Annotated[bool, typer.Option("--base", help="Also a T5 of base size, its weights random (2 GB).")] = False,
    peers_python: Annotated[Path, typer.Option(help="The interpreter of the peers' environment.")] = Path(
        ".venv-peers/bin/python"
    ),
) -> None:
    cache_dir = Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))
    folder = embedded.prepare(cache_dir, err.print)
    peers = PEERS if peers_python.exists() else ()
    if not peers:
        err.print(f"no {peers_python}: CTranslate2 and ONNX Runtime are not run (make bench-peers)", style="yellow")
    with tempfile.TemporaryDirectory(prefix="sp-") as scratch:
        small = compare(folder, Path(scratch) / "small", peers, peers_python, quick=quick)
        medians = {"small": small}
        if base:
            medians["base"] = compare(
                write_base_model(Path(scratch) / "t5-base-random", folder),
                Path(scratch) / "base",
                peers,
                peers_python,
                quick=quick,
            )
    figures = ratios(small)
    peak = gemm_peak()
    mixed32 = workloads(quick=quick)["mixed32"]
    figures["mixed32_fp32_peak_fraction"] = needed_flops(folder, mixed32) / small["mixed32"]["superpos_fp32"] / peak
    if "superpos_bf16" in OURS:
        figures["mixed32_bf16_peak_fraction"] = (
            needed_flops(folder, mixed32) / small["mixed32"]["superpos_bf16"] / gemm_peak(torch.bfloat16)
        )
    figures["labels77_vs_2"] = labels77_vs_2(folder, rounds=5 if quick else 15)
    figures |= agreement(folder, cache_dir, rows=200 if quick else None)
    figures |= best_ratios(small, figures)
    figures["max_difference_one_step"] = small["differences"]["superpos_fp32"]
    print_result(
        "engine", {name: float(f"{value:.4g}") for name, value in figures.items()}, detail={"seconds": medians}
    )


def compare(
    folder: Path, scratch: Path, peers: Sequence[str], peers_python: Path, *, quick: bool
) -> dict[str, dict[str, float]]:
    """Measure median seconds by workload and engine, and each engine's difference in scores from `transformers`."""
    scratch.mkdir()
    names = [*LOCAL, *peers]
    engines: list[EngineProcess] = []
    todo = workloads(quick=quick)
    seconds: dict[str, dict[str, list[float]]] = {workload: {name: [] for name in names} for workload in todo}
    rounds = 5 if quick else 15
    scores: dict[str, object] = {}
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("starting", total=len(names) + len(todo) * rounds * len(names))
        try:
            for name in names:
                python = sys.executable if name in LOCAL else str(peers_python)
                log = scratch / f"{name}.log"
                engines.append(start(WORKER, name, str(folder), str(scratch), log=log, python=python))
                progress.update(bar, description=f"starting {name}", advance=1)
            for workload, token_ids in todo.items():
                for engine in engines:
                    scores[engine.name] = engine.ask(token_ids)
                for _ in range(rounds):
                    for engine in engines:
                        progress.update(bar, description=f"{workload}: {engine.name}", advance=1)
                        time.sleep(SETTLE_S)
                        seconds[workload][engine.name].append(float(str(engine.ask(None))))
        finally:
            for engine in engines:
                engine.stop()
    found = {w: {engine.name: statistics.median(seconds[w][engine.name]) for engine in engines} for w in todo}
    _show(folder.name, found)
    found["differences"] = _differences(scores)
    return found


def ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the figures: another engine's seconds ÷ ours."""
    asked = {
        "mixed32_fp32_vs_generate2": ("mixed32", "generate2", "superpos_fp32"),
        "mixed32_fp32_vs_one_step": ("mixed32", "one_step", "superpos_fp32"),
        "mixed32_fp32_vs_ctranslate2": ("mixed32", "ctranslate2_fp32", "superpos_fp32"),
        "mixed32_fp32_vs_onnxruntime": ("mixed32", "onnxruntime_fp32", "superpos_fp32"),
        "mixed8_fp32_vs_generate2": ("mixed8", "generate2", "superpos_fp32"),
        "single_fp32_vs_generate2": ("mixed1", "generate2", "superpos_fp32"),
        "mixed32_int8_vs_ctranslate2_int8": ("mixed32", "ctranslate2_int8", "superpos_int8"),
        "mixed32_int8_vs_onnxruntime_int8": ("mixed32", "onnxruntime_int8", "superpos_int8"),
        "mixed32_int8_vs_fp32": ("mixed32", "superpos_fp32", "superpos_int8"),
        "mixed32_bf16_vs_fp32": ("mixed32", "superpos_fp32", "superpos_bf16"),
        "single_bf16_vs_fp32": ("mixed1", "superpos_fp32", "superpos_bf16"),
    }
    return {
        name: medians[workload][other] / medians[workload][ours]
        for name, (workload, other, ours) in asked.items()
        if {other, ours} <= medians[workload].keys()
    }


def best_ratios(medians: Mapping[str, Mapping[str, float]], figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures: seconds of the fastest peer ÷ ours in the fastest precision that agrees with fp32."""
    ours = [
        name
        for name in OURS
        if name == "superpos_fp32"
        or figures.get(f"{name.removeprefix('superpos_')}_label_agreement_min", 0.0) >= MIN_AGREEMENT
    ]
    found: dict[str, float] = {}
    for workload, figure in (("mixed32", "mixed32"), ("mixed8", "mixed8"), ("mixed1", "single")):
        peers = [medians[workload][peer] for peer in PEERS if peer in medians[workload]]
        if peers:
            best = min(medians[workload][name] for name in ours)
            found[f"{figure}_best_vs_best_peer"] = min(peers) / best
    return found


def _differences(scores: Mapping[str, object]) -> dict[str, float]:
    reference = np.array(scores["one_step"])
    return {
        name: float(np.abs(np.array(found) - reference).max()) for name, found in scores.items() if found is not None
    }


def _show(model: str, medians: Mapping[str, Mapping[str, float]]) -> None:
    """Print seconds as multiples of ours in fp32: above 1 is slower."""
    names = list(next(iter(medians.values())))
    table = Table("workload", *names, title=f"{model}: time ÷ time of superpos_fp32")
    for workload, found in medians.items():
        table.add_row(workload, *(f"{found[name] / found['superpos_fp32']:.2f}" for name in names))
    print_table(table)


if __name__ == "__main__":
    app()
