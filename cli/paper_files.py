"""`superpos paper results | restore | render`: a grid's folder as one JSON file, and back; the page of such files."""

from pathlib import Path
from typing import Annotated

import typer

from cli.backbone_options import load_backbone
from cli.console import CommandError, out, report_errors
from cli.options import BackboneOption, CacheOption, OfflineOption, RevisionOption

GridOption = Annotated[Path, typer.Option("--out", help="The grid's folder.")]


def results(
    folder: Annotated[Path, typer.Argument(help="A grid's folder.")],
    json_file: Annotated[Path, typer.Option("--json", help="The file to write.")],
    backbone: BackboneOption = "embedded",
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
) -> None:
    """Write what the finished runs of a folder came to into one JSON file.

    \b
        superpos paper results runs/paper --json docs/results/embedded.json
    """
    from backbone import BackboneError
    from training.errors import TrainingError
    from training.paper.grid_folder import collect
    from training.paper.results import write_results

    with report_errors(BackboneError, TrainingError):
        loaded = load_backbone(
            backbone, cache_dir=cache_dir, revision=revision, offline=offline, device="cpu", threads=None
        )
        found = collect(folder, loaded)
        if not found.cells:
            raise CommandError(f"{folder} holds no finished run of a grid")
        write_results(json_file, found)
        out.print(f"{json_file}: {len(found.cells)} runs", markup=False)


def restore(
    json_file: Annotated[Path, typer.Argument(metavar="JSON", help="What `superpos paper results` wrote.")],
    out_folder: GridOption = Path("runs/paper"),
) -> None:
    """Put the runs of a results file into a grid's folder as finished, to go on with a grid that ran elsewhere.

    What a run left beside its result (adapter, curve of each step, p′) is not in the file: Figure 2d needs new runs.

    \b
        superpos paper restore docs/results/embedded.json --out runs/paper
    """
    from training.errors import TrainingError
    from training.paper.grid_folder import restore_cells
    from training.paper.results import read_results

    with report_errors(TrainingError):
        cells = read_results(json_file).cells
        count = restore_cells(out_folder, cells)
        out.print(f"{out_folder}: {count} of {len(cells)} runs restored, the others are there", markup=False)


def render(
    json_files: Annotated[list[Path], typer.Argument(metavar="JSON...", help="What `superpos paper results` wrote.")],
    out_file: Annotated[Path, typer.Option("--out", help="The page; plots go to `images` beside it.")] = Path(
        "docs/results.md"
    ),
) -> None:
    """Write the page of results: tables, claims and plots, from the JSON files alone.

    \b
        superpos paper render docs/results/*.json --out docs/results.md
    """
    from training.errors import TrainingError
    from training.paper.page import write_page
    from training.paper.results import read_results

    with report_errors(TrainingError):
        write_page(out_file, {path.stem: read_results(path) for path in json_files}, images=out_file.parent / "images")
        out.print(str(out_file), markup=False)
