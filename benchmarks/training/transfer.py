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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, cast

import typer
from matplotlib.figure import Figure

from adapters.atomic_files import atomic_write
from backbone import Backbone, Precision
from benchmarks.training.cells import AUTO_START, HEAD, TFIDF, Cell, CellResult, GridFile, read_results
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
from benchmarks.training.tables import chosen_lines, facts, markdown_table, mean_and_half_width, select
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
    AUTO_START,
)
OF_PRIORS: dict[PriorKind, tuple[str, ...]] = {
    "shared": ("mpt/words", "mpt/soft", "mpt/pooled"),
    "subspace": ("ipt/words", "ipt/soft", "ipt/pooled"),
}
LINES = (*ALONE, *OF_LIBRARY, *(line for lines in OF_PRIORS.values() for line in lines))
_ABOUT = """Scores by training rows per label (`--shots`), next to at most as many that select. `mixture` superposes \
the best prompt of every other task of the library; `spot` starts from the most transferable one, and `panda` learns \
from it; `start_auto` tries them all on the cell's rows; `mpt` and `ipt` start from what training over the library \
left. `none/…` is a head on the frozen model and `tfidf` a bag of words; where rows are few, both are fitted to the \
selection rows too.
"""
_MEANS = f"""Means over the sets that `{ALONE[0]}` has; a dash where a line lacks one of them, or a seed.
"""
_SPEED = """Optimiser steps until the selection score first reaches 95 % of the run's best: the median over sets and \
seeds. The true number may be smaller, by up to the distance between two evaluations.
"""
_SPEED_OF_STARTS = """Optimiser steps until the selection score first reaches 95 % of the last one of \
`superpos/words` on the same rows: the median over sets and seeds, and how many runs reach it.
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
        if line.startswith("mixture/") or line == AUTO_START:
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

    def best_in_trials(self, cell: Cell, task: TaskFile) -> Cell:
        """Return a cell of `AUTO_START` with the one source that it starts from, or none, by trials on its own rows."""
        key, known = f"{cell.set}, seed {cell.seed}, {cell.shots} rows per label", self._known()
        if key not in known:
            prompts = {str(source.folder): source.adapter for source in self.prompts}
            candidates = [Candidate(folder, prompts[folder]) for folder in cell.sources]
            ranking = rank_starts(
                self.backbone,
                task,
                candidates,
                steps=RANKING_STEPS,
                trial=True,
                shots=cell.shots,
                seed=cell.seed,
                explicit=dict(cell.arguments),
            )
            known[key] = "" if ranking.best is None else ranking.best.name
            self._keep(known)
        return replace(cell, sources=(known[key],) if known[key] else ())

    def _most_transferable(self, others: Sequence[SourcePrompt], task: TaskFile) -> str:
        known = self._known()
        if task.name not in known:
            candidates = [Candidate(str(source.folder), source.adapter) for source in others]
            known[task.name] = (
                rank_starts(self.backbone, task, candidates, steps=RANKING_STEPS, trial=False).starts[0].name
            )
            self._keep(known)
        return known[task.name]

    def _known(self) -> dict[str, str]:
        known: dict[str, str] = json.loads(self.chosen.read_text(encoding="utf-8")) if self.chosen.is_file() else {}
        return known

    def _keep(self, known: dict[str, str]) -> None:
        atomic_write({self.chosen: (json.dumps(known, indent=1) + "\n").encode()})


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
    cells = [sources.best_in_trials(cell, tasks[cell.set]) if cell.line == AUTO_START else cell for cell in cells]
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
        *((_MEANS, means_table(results)) if len({each.cell.set for each in results}) > 1 else ()),
        _SPEED,
        speed_table(results),
        *([_SPEED_OF_STARTS, starts_table(results)] if any(each.curve for each in results) else ()),
    ]
    write_section("\n\n".join(part.strip() for part in parts) + "\n", out_file)
    if plot is not None:
        write_plot(starts_figure(results), plot)


def means_table(results: Sequence[CellResult]) -> str:
    """Return the mean over sets of each line, with the interval over seeds: one row per line, the best first."""
    counts = shots_of(results)
    means = {line: [_means_of_seeds(results, line, n) for n in counts] for line in lines_of(results)}
    best_first = sorted(means, key=lambda line: [statistics.fmean(each or [0.0]) for each in means[line]], reverse=True)
    rows = [[line, *map(mean_and_half_width, means[line])] for line in best_first if any(means[line])]
    return markdown_table(["line", *map(told, counts)], rows, words=1)


def _means_of_seeds(results: Sequence[CellResult], line: str, shots: int | None) -> list[float]:
    """Return the mean over sets in points, by seed; empty if the line lacks a cell that `ALONE[0]` has."""
    wanted = {(each.cell.set, each.cell.seed) for each in select(results, line=ALONE[0], shots=shots)}
    found = {(each.cell.set, each.cell.seed): 100 * each.score for each in select(results, line=line, shots=shots)}
    if not wanted <= found.keys():
        return []
    seeds = sorted({seed for _, seed in wanted})
    return [statistics.fmean(found[pair] for pair in wanted if pair[1] == seed) for seed in seeds]


def speed_table(results: Sequence[CellResult]) -> str:
    """Return the median steps to 95 % of the best selection score: one row per line, one column per number of rows."""
    counts = shots_of(results)
    lines = [line for line in lines_of(results) if line not in FITTED]
    rows = [[line, *(_median_steps(select(results, line=line, shots=n)) for n in counts)] for line in lines]
    return markdown_table(["line", *map(told, counts)], rows, words=1)


def starts_table(results: Sequence[CellResult]) -> str:
    """Return steps to 95 % of the last selection score of SuperPos on the same rows: one row per line."""
    goals = {_rows_of(each.cell): 0.95 * each.curve[-1][1] for each in select(results, line=ALONE[0]) if each.curve}
    counts = [n for n in shots_of(results) if any(shots == n for _, _, shots in goals)]
    rows = []
    for line in lines_of(results):
        runs = [each for each in select(results, line=line) if each.curve and _rows_of(each.cell) in goals]
        if line not in FITTED and runs:
            rows.append([line, *(_steps_to(goals, [each for each in runs if each.cell.shots == n]) for n in counts)])
    return markdown_table(["line", *map(told, counts)], rows, words=1)


def _rows_of(cell: Cell) -> tuple[str, int, int | None]:
    return cell.set, cell.seed, cell.shots


def _steps_to(goals: Mapping[tuple[str, int, int | None], float], results: Sequence[CellResult]) -> str:
    """Return `12 (8 of 9)`: the median over the runs that reach their goal."""
    reached = [
        next((step for step, score in each.curve if score >= goals[_rows_of(each.cell)]), None) for each in results
    ]
    known = [step for step in reached if step is not None]
    return f"{statistics.median(known):g} ({len(known)} of {len(reached)})" if known else "–"


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
