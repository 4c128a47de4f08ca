"""The HTML page about one run or several: text, tables and figures in one file that needs no network."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import jinja2
import yaml

from adapters.atomic_files import atomic_write
from adapters.baselines import LEARNED, TITLES, BaselineName, read_baselines
from training.report import style
from training.report.comparison import NamedRun, best_run, named_runs
from training.report.plots import Plot, comparison_plots, run_plots
from training.report.reading import find_runs, read_run
from training.report.run_view import RunView, run_view
from training.runs.layout import PLOTS
from training.task.task_file import TaskFile

_FOLDER = Path(__file__).parent
MAX_RUNS_IN_FULL = 2
"""Maximum number of runs shown in full; of more, the best of each task is."""
MAX_TASKS_IN_FULL = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The runs of one task: their figures' plots, and which is best."""

    task: TaskFile
    runs: Sequence[NamedRun]
    best: NamedRun
    plots: Sequence[Plot]

    @property
    def baseline_names(self) -> list[BaselineName]:
        """The fitted baselines that some run was measured against; constant and untrained have columns of their own."""
        measured = {each.name for run in self.runs for each in read_baselines(run.record.metrics)}
        return [name for name in LEARNED if name in measured]

    @property
    def has_fitted_rows(self) -> bool:
        """Whether the selection score of some run is out of fold."""
        return any(run.record.fitted_rows is not None for run in self.runs)

    @property
    def means(self) -> list[tuple[str, int, float, float]]:
        """Runs that differ only in seed or fold: name, number, mean and population deviation of scores."""
        groups: dict[str, list[float]] = {}
        for run in self.runs:
            groups.setdefault(run.group, []).append(run.record.metrics["report_score"])
        return [
            (group, len(scores), statistics.fmean(scores), statistics.pstdev(scores))
            for group, scores in groups.items()
            if len(scores) > 1
        ]


def detailed(runs: Sequence[NamedRun]) -> list[NamedRun]:
    """Runs that are shown in full."""
    if len(runs) <= MAX_RUNS_IN_FULL:
        return list(runs)
    tasks: dict[str, list[NamedRun]] = {}
    for run in runs:
        tasks.setdefault(run.record.task.name, []).append(run)
    return [best_run(of_task) for of_task in tasks.values()][:MAX_TASKS_IN_FULL]


def html(
    comparisons: Sequence[Comparison],
    plots: Mapping[str, Sequence[Plot]],
) -> str:
    """The page.

    Args:
        comparisons: the runs by task
        plots: of the runs that are shown in full, by run name
    """
    runs = [run for comparison in comparisons for run in comparison.runs]
    views: list[RunView] = [run_view(run, plots[run.name]) for run in runs if run.name in plots]
    return rendered(
        _FOLDER / "report.html.j2",
        comparisons=comparisons,
        runs=runs,
        views=views,
        task_yaml=task_yaml,
        baseline_titles=TITLES,
    )


def rendered(template: Path, **values: object) -> str:
    """Return a page of this style; its template may import `macros.html.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(_FILTERS)
    css = (_FOLDER / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template.name).render(css=css, light=style.LIGHT, dark=style.DARK, **values)


def task_yaml(task: TaskFile) -> str:
    """The task as a task file has it."""
    value = task.model_dump(mode="json", exclude_defaults=True)
    spec = value.pop("spec")
    spec["labels"] = {label["name"]: label["words"] for label in spec["labels"]}
    data = value.pop("data")
    return yaml.safe_dump(value | spec | {"data": data}, sort_keys=False, allow_unicode=True, width=100)


def _share(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def _seconds(value: float) -> str:
    minutes, seconds = divmod(value, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"


def _bytes(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _plain(value: object) -> str:
    """An argument, as a reader would write it."""
    match value:
        case None | () | []:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


_FILTERS = MappingProxyType({"share": _share, "seconds": _seconds, "bytes": _bytes, "count": _count, "plain": _plain})


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write the report of one run or several; plots go into the folder `plots` next to it, as SVG and PNG.

    Args:
        paths: folders of runs, or folders that hold some
        out: the page's file

    Raises:
        InvalidData: no finished run is there, or a file of one is broken
    """
    runs = named_runs([read_run(path) for path in find_runs(paths)])
    tasks: dict[str, list[NamedRun]] = {}
    for run in runs:
        tasks.setdefault(run.record.task.name, []).append(run)
    comparisons = [
        Comparison(
            task=of_task[0].record.task,
            runs=of_task,
            best=best_run(of_task),
            plots=comparison_plots(of_task, suffix=f"--{name}" if len(tasks) > 1 else ""),
        )
        for name, of_task in tasks.items()
    ]
    shown = detailed(runs)
    plots = {
        run.name: run_plots(run.record, suffix=f"--run{number}" if len(runs) > 1 else "")
        for number, run in enumerate(runs, start=1)
        if run in shown
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write({out: html(comparisons, plots).encode()})
    folder = out.parent / PLOTS
    folder.mkdir(exist_ok=True)
    for group in [*(comparison.plots for comparison in comparisons), *plots.values()]:
        for plot in group:
            plot.write(folder)
