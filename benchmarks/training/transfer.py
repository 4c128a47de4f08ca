"""Starts from other tasks: scores by rows per label of methods with and without a library of source prompts.

SuperPos, a plain prompt, LoRA, adapters and one-shot prompting start from nothing; so do two heads on the frozen model
and a bag of words, the alternatives that are fitted in seconds. With `--library` (of `superpos library train`),
mixtures superpose the best prompt of every other task, and SPoT and PANDA start from the one that is most transferable
to the set; with `--shared` and `--subspace` (of `superpos library share | subspace`) MPT and IPT start from those. A
set's own prompts are never its sources. A shared prompt or a subspace that has some among its sources is left out for
that set.

    python -m benchmarks.training.transfer run --out runs/transfer.jsonl --library runs/library --shared runs/shared
    python -m benchmarks.training.transfer render runs/transfer.jsonl --out docs/results/transfer.md

Needs SUPERPOS_DATA. An interrupted grid resumes with the same command: cells with a line in the file are kept.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

import typer
from matplotlib.figure import Figure

from adapters.atomic_files import atomic_write
from backbone import Backbone, Precision
from benchmarks.training.cells import HEAD, TFIDF, CellResult, GridFile, read_results
from benchmarks.training.figures import dots_figure
from benchmarks.training.learning_curves import cells_by_rows, curves_table, lines_of, shots_of, told
from benchmarks.training.options import (
    BackboneOption,
    LimitOption,
    OnlyOption,
    PrecisionOption,
    ReportOption,
    SeedsOption,
    SelectionOption,
    SetOption,
    SetsOption,
    ThreadsOption,
    load_model,
    load_tasks,
    parse_arguments,
    write_plot,
    write_section,
)
from benchmarks.training.tables import chosen_lines, facts, markdown_table, select
from cli.console import err
from training.methods.prior import PriorKind, read_prior
from training.report import style
from training.source_prompts.collection import SourcePrompt, best_of_each_task, read_library
from training.source_prompts.similar import Candidate, rank_starts
from training.task.task_file import TaskFile

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

FEW_ROW_SETS = "sst2,mrpc,rte,cb,trec,ag_news"
FITTED = ("none/joint", HEAD, TFIDF)
"""Lines that are fitted without optimiser steps."""
ALONE = (
    *("superpos/words", "superpos/soft", "superpos/pooled", "simple/words"),
    *("lora/words", "houlsby/words", "one_shot/words"),
    *FITTED,
)
"""Lines that start from nothing."""
OF_LIBRARY = (
    "mixture/words",
    "mixture/soft",
    "mixture/pooled",
    "spot/words",
    "spot/soft",
    "spot/pooled",
    "panda/words",
)
OF_PRIORS: dict[PriorKind, tuple[str, ...]] = {
    "shared": ("mpt/words", "mpt/soft", "mpt/pooled"),
    "subspace": ("ipt/words", "ipt/soft", "ipt/pooled"),
}
LINES = (*ALONE, *OF_LIBRARY, *(line for lines in OF_PRIORS.values() for line in lines))
_ABOUT = """Scores by training rows per label (`--shots`), next to at most as many that select. `mixture` superposes \
the best prompt of every other task of the library; `spot` starts from the most transferable one, and `panda` learns \
from it; `mpt` and `ipt` start from what training over the library left. `none/…` is a head on the frozen model and \
`tfidf` a bag of words; where rows are few, both are fitted to the selection rows too.
"""
_SPEED = """Optimiser steps until the selection score first reaches 95 % of the run's best: the median over sets and \
seeds. Evaluations are far apart, so a small number is a bound.
"""
RANKING_STEPS = 50


@dataclass(slots=True)
class Sources:
    """Folders that each line starts from on a set."""

    backbone: Backbone
    prompt_library: Path | None
    priors: dict[PriorKind, Path]
    chosen: Path
    """A file that keeps the most transferable source of each set, so that a resumed grid has the same."""
    _prompts: list[SourcePrompt] = field(default_factory=list)

    def of(self, line: str, task: TaskFile) -> tuple[str, ...] | None:
        """Return the folders that a line starts from; None if it lacks them, or if they know the set."""
        if line in ALONE:
            return ()
        for kind, lines in OF_PRIORS.items():
            if line in lines:
                return self._prior(kind, task)
        others = [source for source in best_of_each_task(self.prompts) if source.task.name != task.name]
        if not others:
            return None
        if line.startswith("mixture/"):
            return tuple(str(source.folder) for source in others)
        return (self._most_transferable(others, task),)

    @property
    def prompts(self) -> list[SourcePrompt]:
        """The prompts of the library; empty without one."""
        if self.prompt_library is not None and not self._prompts:
            self._prompts = list(read_library(self.backbone, self.prompt_library))
        return self._prompts

    @property
    def length(self) -> int | None:
        """Virtual tokens of the library's prompts; None without one."""
        return len(self.prompts[0].adapter.prompt) if self.prompts else None

    def _prior(self, kind: PriorKind, task: TaskFile) -> tuple[str, ...] | None:
        if (folder := self.priors.get(kind)) is None:
            return None
        identity, width = self.backbone.identity, self.backbone.width
        prior = read_prior(folder, fingerprint=identity.fingerprint, width=width, kind=kind)
        own = {source.adapter.digest for source in self.prompts if source.task.name == task.name}
        return None if own & set(prior.sources) else (str(folder),)

    def _most_transferable(self, others: Sequence[SourcePrompt], task: TaskFile) -> str:
        known: dict[str, str] = json.loads(self.chosen.read_text(encoding="utf-8")) if self.chosen.is_file() else {}
        if task.name not in known:
            candidates = [Candidate(str(source.folder), source.adapter) for source in others]
            ranking = rank_starts(self.backbone, task, candidates, steps=RANKING_STEPS, trial=False)
            known[task.name] = ranking.starts[0].name
            atomic_write({self.chosen: (json.dumps(known, indent=1) + "\n").encode()})
        return known[task.name]


@app.command()
def run(
    out_file: Annotated[Path, typer.Option("--out", help="The grid's file, one line of JSON per cell.")],
    *,
    library: Annotated[Path | None, typer.Option(help="Folder of 'superpos library train'.")] = None,
    shared: Annotated[Path | None, typer.Option(help="Folder of 'superpos library share'.")] = None,
    subspace: Annotated[Path | None, typer.Option(help="Folder of 'superpos library subspace'.")] = None,
    sets: SetsOption = FEW_ROW_SETS,
    seeds: SeedsOption = "0,1,2",
    shots: Annotated[str, typer.Option(help="Training rows per label, with commas; 'all' is every row.")] = "8,32,128",
    only: OnlyOption = None,
    limit: LimitOption = None,
    max_selection: SelectionOption = None,
    max_report: ReportOption = None,
    arguments: SetOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    backbone: BackboneOption = "embedded",
) -> None:
    """Run the cells that have no line yet: the fewest rows first, seed by seed."""
    tasks = load_tasks(sets)
    model = load_model(backbone, threads)
    priors: dict[PriorKind, Path] = {}
    priors |= {} if shared is None else {"shared": shared}
    priors |= {} if subspace is None else {"subspace": subspace}
    sources = Sources(model, library, priors, out_file.with_suffix(".sources.json"))
    given = dict(parse_arguments(arguments))
    if sources.length is not None:
        given.setdefault("num_virtual_tokens", sources.length)
    starts = {(name, line): sources.of(line, tasks[name]) for name in tasks for line in chosen_lines(only, LINES)}
    cells = cells_by_rows(
        {pair: start for pair, start in starts.items() if start is not None},
        shots=shots,
        seeds=seeds,
        limit=limit,
        max_selection=max_selection,
        max_report=max_report,
        arguments=tuple(sorted(given.items())),
    )
    left_out = sorted({line for (_, line), start in starts.items() if start is None})
    if left_out:
        err.print(f"left out where there is nothing to start from: {', '.join(left_out)}")
    grid = GridFile(out_file, model, tasks, precision=cast(Precision, precision), say=err.print)
    if failed := grid.run(cells):
        raise typer.Exit(min(failed, 100))


@app.command()
def render(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of grids.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="The tables. (default: printed)")] = None,
    plot: Annotated[Path | None, typer.Option(help="The plot, without its ending; .svg and .png are written.")] = None,
) -> None:
    """Write the tables in Markdown, and the plot."""
    results = [result for file in files for result in read_results(file)]
    parts = [
        "# Starts from other tasks",
        _ABOUT + facts(results),
        curves_table(results),
        _SPEED,
        speed_table(results),
    ]
    write_section("\n\n".join(part.strip() for part in parts) + "\n", out_file)
    if plot is not None:
        write_plot(starts_figure(results), plot)


def speed_table(results: Sequence[CellResult]) -> str:
    """Return the median steps to 95 % of the best selection score: one row per line, one column per number of rows."""
    counts = shots_of(results)
    lines = [line for line in lines_of(results) if line not in FITTED]
    rows = [[line, *(_median_steps(select(results, line=line, shots=n)) for n in counts)] for line in lines]
    return markdown_table(["line", *map(told, counts)], rows, words=1)


def starts_figure(results: Sequence[CellResult]) -> Figure:
    """Draw one panel per set: the scores of each line, coloured by the number of rows per label."""
    counts = shots_of(results)
    return dots_figure(
        results,
        lines_of(results),
        dict(zip(counts, style.SERIES, strict=False)),
        series_of=lambda result: result.cell.shots,
        legend={count: f"{told(count)} rows per label" for count in counts},
    )


def _median_steps(results: Sequence[CellResult]) -> str:
    steps = [result.steps_to_95 for result in results if result.steps_to_95 is not None]
    return f"{statistics.median(steps):g}" if steps else "–"


if __name__ == "__main__":
    app()
