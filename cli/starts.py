"""Adapters that a new task could start from: those in folders, of a registry or of a server."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import InvalidAdapter
from adapters.files import CONFIG, from_files, read_folder, to_files, write_folder
from adapters.names import PRODUCTION, Ref
from cli.backbone_options import BackboneOptions, load_backbone
from cli.console import CommandError, err, status
from cli.targets.opening import open_target
from cli.ui.ranking import print_ranking
from training.config.arguments import default_of, unused_arguments
from training.config.recipes import recipes
from training.runs.adapter_folder import adapter_files
from training.runs.layout import ADAPTER

if TYPE_CHECKING:
    from backbone import Backbone
    from training.source_prompts.similar import Candidate
    from training.task.task_file import TaskFile

START = "start"
"""In a run's folder: the adapter that `--start auto` chose."""
NO_START = "none.txt"
"""In that folder, if no adapter was better than SuperPos without a source."""


def is_folder(location: str) -> bool:
    """Return whether a location is a folder on this machine, and not a registry or a server."""
    return "://" not in location and Path(location).is_dir()


def candidates(backbone: "Backbone", location: str, key: str | None = None) -> "list[Candidate]":
    """Read the adapters at a location: each run or adapter under a folder, or production of each task of a registry.

    Adapters for another backbone are left out, and reported; of equal adapters the first counts.

    Raises:
        CommandError: there is none for this backbone, or nothing at the location
    """
    if "://" not in location and not Path(location).exists():
        raise CommandError(f"{location}: no such folder or registry")
    found = _in_folder(Path(location)) if is_folder(location) else _of_tasks(location, key)
    fitting = []
    for candidate in {each.adapter.digest: each for each in reversed(found)}.values():
        try:
            candidate.adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
        except InvalidAdapter as exc:
            err.print(f"left out {candidate.name}: {exc}", style="yellow")
        else:
            fitting.append(candidate)
    if not fitting:
        raise CommandError(f"{location} has no adapter for backbone {backbone.identity.id} with a prompt to start from")
    return fitting[::-1]


def without_report_rows(found: "Sequence[Candidate]", task: "TaskFile", *, seed: int) -> "list[Candidate]":
    """Return the adapters that were neither trained nor chosen on report rows of the task, and name the others.

    Raises:
        CommandError: none is left
    """
    from training.data.row_files import RowFiles
    from training.source_prompts.similar import num_report_rows_seen, report_rows

    files = RowFiles(task)
    report = report_rows(files, seed=seed)
    kept = []
    for candidate in found:
        if seen := num_report_rows_seen(candidate.adapter, files, report):
            told = f"{seen} of {len(report)} report rows of --seed {seed} trained it or chose its best step"
            err.print(f"left out {candidate.name}: {told}", style="yellow")
        else:
            kept.append(candidate)
    if not kept:
        raise CommandError(f"all {len(found)} adapters have seen report rows of --seed {seed}; give the seed they have")
    return kept


def _in_folder(folder: Path) -> "list[Candidate]":
    from training.source_prompts.similar import Candidate

    found = []
    for path in _adapter_folders(folder):
        try:
            found.append(Candidate(str(path), from_files(adapter_files(path))))
        except InvalidAdapter as exc:
            err.print(f"left out {path}: {exc}", style="yellow")
    return found


def _adapter_folders(folder: Path) -> Sequence[Path]:
    """Return every folder with an adapter under a folder, the folder itself included; for a run, the run's folder."""
    holding = sorted(path.parent for path in folder.rglob(CONFIG))
    return [path.parent if path.name == ADAPTER else path for path in holding]


def _of_tasks(location: str, key: str | None) -> "list[Candidate]":
    from training.source_prompts.similar import Candidate

    target = open_target(location, key)
    found = []
    for info in target.tasks():
        if PRODUCTION in info.aliases:
            found.append(Candidate(info.task, from_files(target.files(Ref.parse(info.task)))))
    return found


def chosen_start(
    tasks: "Sequence[TaskFile]",
    explicit: dict[str, Any],
    start_from: str | None,
    key: str | None,
    *,
    rates: Sequence[float],
    preset: str | None,
    out_folder: Path | None,
    steps: int,
    split: str,
    seeds: int,
    limit: int | None,
    shots: int | None,
    backbone: BackboneOptions,
) -> dict[str, Any]:
    """Return the options of the run that starts: spot from the best adapter, or as given if no adapter was better.

    The choice is kept in the run's folder, so that a resumed run starts from the same adapter.

    Args:
        explicit: the options as given, without the learning rate
        start_from: a folder, a server or a registry; None without `--start`
        rates: learning rates as given, of which the trials take the first
        seeds: number of runs, each of which draws its own held-out rows
    """
    from training.data.sources import locate

    if start_from is None:
        return explicit
    if len(tasks) != 1:
        raise CommandError(f"--start auto was given {len(tasks)} tasks, expected one")
    if out_folder is None:
        raise CommandError("--start auto keeps the adapter that it chose in the run's folder; name it with --out")
    if "method" in explicit or "sources" in explicit:
        raise CommandError("--start auto sets --method spot and its --source; leave them out")
    if preset is not None:
        raise CommandError(f"--start auto decides the method, and so does --preset {preset}; leave one of them out")
    if split == "kfold":
        raise CommandError("--start auto would choose on rows that --split kfold reports; use --split honest")
    if seeds > 1 and not locate(tasks[0].data).validation:
        raise CommandError(
            f"--start auto would choose on rows that others of --seeds {seeds} report, since the task file names no "
            "validation rows; name some, or train one seed at a time"
        )
    folder = out_folder / START
    if not (folder / NO_START).is_file() and not (folder / CONFIG).is_file():
        recipes(explicit, rates=rates, tasks=[tasks[0].spec])  # refuses what no run could use, before the trials
        options = explicit | ({"lr": rates[0]} if rates else {})
        _choose(tasks[0], options, start_from, key, folder, steps=steps, limit=limit, shots=shots, backbone=backbone)
    if (folder / NO_START).is_file():
        status("starting without a source: no adapter was better than SuperPos in the trials")
        return explicit
    adapter = from_files(read_folder(folder))
    status(f"starting from {adapter.digest}, kept in {folder}")
    length = explicit.get("num_virtual_tokens", adapter.num_virtual_tokens)
    unused = unused_arguments("spot", "words") - unused_arguments("superpos", "words")
    used = {name: value for name, value in explicit.items() if name not in unused}
    return used | {"method": "spot", "sources": (str(folder),), "num_virtual_tokens": length}


def _choose(
    task: "TaskFile",
    options: dict[str, Any],
    start_from: str,
    key: str | None,
    folder: Path,
    *,
    steps: int,
    limit: int | None,
    shots: int | None,
    backbone: BackboneOptions,
) -> None:
    """Rank the adapters by trials and write the best into a folder, or a file that says that none was better."""
    from training.source_prompts.similar import MAX_ROWS, rank_starts

    loaded = load_backbone(replace(backbone, device=backbone.device.split(",")[0]))
    seed = options.get("seed", default_of("seed", "spot"))
    found = without_report_rows(candidates(loaded, start_from, key), task, seed=seed)
    status(f"trying {len(found)} adapters as starts, {steps} steps each")
    ranking = rank_starts(
        loaded,
        task,
        found,
        steps=steps,
        trial=True,
        limit=min(limit or MAX_ROWS, MAX_ROWS),
        shots=shots,
        seed=seed,
        explicit=options,
    )
    print_ranking(ranking)
    if (best := ranking.best) is None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / NO_START).write_text("no adapter was better than SuperPos without a source\n", encoding="utf-8")
        return
    write_folder(folder, to_files(next(each.adapter for each in found if each.name == best.name)))
