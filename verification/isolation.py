"""Check that no tenant gets another's answer: two tenants with tasks of the same names, hot swaps and evictions.

- `python -m verification.isolation`: one minute of load
- `python -m verification.isolation --seconds 600 --adapters 100`: longer, with more adapters per tenant

Every adapter is a sentinel: its label names identify its tenant and itself. All kinds of readouts occur, and some
adapters have no prompt, so that their rows share encoder passes within a request. The program compares each answer, of
single tasks and of fan-outs, with what the adapter of that digest computes alone, and checks that the tenant has
published that digest for that task. It exits with status 1 at one wrong answer.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Annotated

import httpx2
import numpy as np
import torch
import typer

from adapters import BackboneRef, Label, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.readout import LearnedReadout, ReadoutKind, num_states, schema_version_of
from backbone import Backbone, LabelVectors, PackedRow, Readout, load, pack
from benchmarks.common.report import print_result
from benchmarks.common.server_process import SUPERPOS, Server, started, tail
from service.settings import default_cache_dir
from verification.isolation_load import ADMIN_KEY, NUM_TASKS, TEXTS, TOLERANCE, WORDS, Scores, run

PROMPT_TOKENS = 100
"""Maximum length of a prompt, so that a few fill the prompt table and evictions never stop."""
READOUTS: tuple[tuple[ReadoutKind, int], ...] = (
    ("words", PROMPT_TOKENS),
    ("soft", 0),
    ("pooled", PROMPT_TOKENS),
    ("pooled", 0),
    ("soft", PROMPT_TOKENS),
    ("joint", 0),
    ("joint", PROMPT_TOKENS),
)
"""Readouts and prompt lengths of the adapters, in turn."""
PRESSURE = {"prompt_table_bytes": 1 << 20, "max_loaded_adapters": 24, "require_keys": True, "admin_key": ADMIN_KEY}
"""Settings under which prompts are evicted and adapters reloaded constantly."""


def sentinels(backbone: Backbone, tenant: str, *, count: int, first_seed: int) -> list[tuple[str, PromptAdapter]]:
    """Make adapters with unique label names, for each task and each readout in turn."""
    scale = float(backbone.weights.embedding.std())
    made = []
    for number, task, (kind, length) in zip(range(count), cycle(range(NUM_TASKS)), cycle(READOUTS), strict=False):
        random = np.random.default_rng(first_seed + number)
        labels = tuple(Label(name=f"{tenant}-{number}-{word}", words=word) for word in WORDS)
        prompt = random.normal(0, scale, (length, backbone.width)).astype(np.float32)
        manifest = Manifest(
            schema_version=schema_version_of(kind),
            readout=kind,
            task=TaskSpec(template="text: {text}", labels=labels, max_tokens=64),
            backbone=BackboneRef(**asdict(backbone.identity)),
            provenance=Provenance(method="random", seed=first_seed + number),
        )
        shape = (len(WORDS), num_states(kind) * backbone.width)
        vectors = random.normal(0, backbone.width**-0.5, shape).astype(np.float32)
        bias = random.normal(0, 1, len(WORDS)).astype(np.float32)
        readout = None if kind == "words" else LearnedReadout(vectors, bias)
        made.append((f"task-{task}", PromptAdapter(prompt, manifest, readout)))
    return made


def alone(backbone: Backbone, adapter: PromptAdapter) -> Scores:
    """Return an adapter's answer to each text, computed alone."""
    kind, learned = adapter.manifest.readout, adapter.readout
    if kind == "words" or learned is None:
        readout: Readout = backbone.label_trie(adapter.spec.label_words)
    else:
        vectors, bias = (torch.from_numpy(values.copy()) for values in (learned.label_vectors, learned.label_bias))
        readout = LabelVectors(kind, vectors, bias)
    prompt = torch.from_numpy(adapter.prompt.copy())
    scores = {}
    for text in TEXTS:
        rendered = adapter.spec.render({"text": text})
        tokens = backbone.tokenizer.tokenize([rendered], max_tokens=64, truncation="error")[0].token_ids
        with torch.inference_mode():
            packed = pack([PackedRow(range(len(prompt)), tokens)])
            scores[text] = backbone.score(backbone.encode(packed, prompt), [readout])[0].numpy()
    return scores


def indistinct(expected: Mapping[str, Scores]) -> float:
    """Return the share of pairs of adapters with equal answers, ignoring label names, which could hide a mix-up."""
    table = np.stack([np.concatenate([scores[text] for text in TEXTS]) for scores in expected.values()])  # [A, n·K]
    apart = np.abs(table[:, None] - table[None]).max(axis=2)  # [A, A]
    upper = apart[np.triu_indices(len(table), k=1)]
    return float((upper <= 10 * TOLERANCE).mean())


async def _wait_ready(url: str, log: Path) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=5) as client:
        for _ in range(600):
            try:
                if (await client.get("/healthz/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.2)
    raise SystemExit(f"the server was not ready:  {tail(log)}")


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long the load lasts.")] = 60.0,
    adapters: Annotated[int, typer.Option(min=2, help="Number of adapters per tenant.")] = 24,
) -> None:
    backbone = load("embedded", cache_dir=default_cache_dir())
    pool = {
        name: sentinels(backbone, name, count=adapters, first_seed=seed)
        for name, seed in (("blue", 0), ("red", 10_000))
    }
    print("computing every adapter's answers alone", file=sys.stderr)
    expected = {adapter.digest: alone(backbone, adapter) for made in pool.values() for _, adapter in made}
    environment = {f"SUPERPOS_{name.upper()}": str(value) for name, value in PRESSURE.items()}
    with tempfile.TemporaryDirectory() as folder:
        registry, log = Path(folder) / "registry.sqlite", Path(folder) / "log"

        def command(port: int) -> Sequence[str]:
            return (SUPERPOS, "serve", "--port", str(port), "--registry", str(registry), "--log-format", "json")

        with started(Server("superpos", command, lambda *_: NotImplemented, None, environment), log=log) as url:
            asyncio.run(_wait_ready(url, log))
            found = asyncio.run(run(url, pool, expected, seconds=seconds))
    for line in found.wrong[:20]:
        print(line, file=sys.stderr)
    figures = {
        "requests": found.requests,
        "rows": found.rows,
        "fan_outs": found.fan_outs,
        "wrong": len(found.wrong),
        "adapters_that_answered": len(found.adapters),
        "published": found.published,
        "swaps": found.swaps,
        "foreign_refused": found.foreign_refused,
        "indistinct_pairs_share": indistinct(expected),
        "largest_difference": found.largest_difference,
    }
    print_result("isolation", figures, detail={"seconds": seconds, "statuses": dict(found.statuses)})
    raise typer.Exit(1 if found.wrong or not found.rows else 0)


if __name__ == "__main__":
    app()
