"""`superpos size`: how many replicas a workload needs, from coefficients that were measured."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.backbone_options import BackboneOptions, backbone_options
from cli.console import CommandError, err, out, print_table, status
from cli.ui.sizing import coefficients_table, plan_json, plan_notes, plan_table

if TYPE_CHECKING:
    from sizing.coefficients import Coefficients, Precision
    from sizing.plan import Workload

_WORKLOAD, _TARGET, _COEFFICIENTS = "Workload", "Replicas", "Coefficients"


@backbone_options()
def size(
    *,
    tasks: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_WORKLOAD, help="Number of tasks, of all tenants.")
    ] = None,
    rps: Annotated[
        float | None,
        typer.Option(min=0.001, rich_help_panel=_WORKLOAD, help="Requests per second in the busiest minute."),
    ] = None,
    tokens: Annotated[
        float | None,
        typer.Option(
            min=1,
            rich_help_panel=_WORKLOAD,
            help="Mean tokens of a text with its template; answers state them as 'tokens'. English has about 1.3 per "
            "word.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, rich_help_panel=_WORKLOAD, help="Texts per request.")] = 1,
    virtual_tokens: Annotated[
        int,
        typer.Option(min=0, max=100, rich_help_panel=_WORKLOAD, help="Tokens of a prompt; 0 for heads without one."),
    ] = 10,
    versions: Annotated[
        int, typer.Option(min=1, rich_help_panel=_WORKLOAD, help="Versions of each task that the registry keeps.")
    ] = 2,
    precision: Annotated[
        Literal["fp32", "int8", "bf16"] | None,
        typer.Option(
            rich_help_panel=_TARGET,
            help="Precision of the servers. (default: fp32; with --measure, all that suit the processor are measured)",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            rich_help_panel=_TARGET,
            help="Cores per replica. (default: the most that were measured; with --measure, one and all)",
        ),
    ] = None,
    max_load: Annotated[
        float,
        typer.Option(
            min=0.05, max=0.95, rich_help_panel=_TARGET, help="Largest share of the capacity, with no spare replica."
        ),
    ] = 0.7,
    p99_ms: Annotated[
        float | None,
        typer.Option(
            min=1, rich_help_panel=_TARGET, help="Largest 99th percentile of latency; adds replicas until it holds."
        ),
    ] = None,
    spare: Annotated[int, typer.Option(min=0, rich_help_panel=_TARGET, help="Replicas that may fail at once.")] = 1,
    resident: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=_TARGET,
            help="Adapters that each replica keeps in memory. (default: all, up to 20,000)",
        ),
    ] = None,
    coefficients: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            rich_help_panel=_COEFFICIENTS,
            help="A file that --measure wrote. (default: the coefficients that come with the package)",
        ),
    ] = None,
    measure: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            rich_help_panel=_COEFFICIENTS,
            help="Measure this machine into a file first: two to four minutes, in which it should do nothing else.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; its member 'chart' is a values file of the Helm chart.")
    ] = False,
    backbone: BackboneOptions,
) -> None:
    """Plan replicas, memory and autoscaling for a workload, from measured coefficients.

    \b
        superpos size --tasks 2000 --rps 50 --tokens 60
        superpos size --tasks 2000 --rps 50 --tokens 60 --precision int8 --p99-ms 300
        superpos size --measure ours.json
        superpos size --tasks 2000 --rps 50 --tokens 60 --coefficients ours.json --json

    Latencies assume independent callers and requests that are spread evenly over the replicas. docs/capacity.md
    explains the model, and how it was checked.
    """
    from sizing.coefficients import read, shipped
    from sizing.plan import Target, plan

    if measure is not None and coefficients is not None:
        raise CommandError("--measure writes coefficients and --coefficients reads them; expected one of them")
    workload = _workload(tasks, rps, tokens, rows=rows, virtual_tokens=virtual_tokens, versions=versions)
    if workload is None and measure is None:
        raise CommandError("--tasks, --rps and --tokens describe the workload, expected all three; or --measure FILE")
    if measure is not None:
        found = _measured(measure, backbone, precision, cores)
    else:
        found = shipped() if coefficients is None else read(coefficients)
    if workload is None:
        if as_json:
            out.print_data(found.model_dump(mode="json"))
        else:
            print_table(coefficients_table(found))
        return
    chosen = precision or "fp32"
    planned = plan(
        workload,
        Target(
            precision=chosen,
            cores=cores or max(found.threads_of(chosen)),
            max_load=max_load,
            p99_s=None if p99_ms is None else p99_ms / 1_000,
            spare=spare,
            resident=resident,
        ),
        found,
    )
    if as_json:
        out.print_data(plan_json(planned, found))
        return
    print_table(plan_table(planned, workload))
    for note in plan_notes(planned, found):
        err.print(note)


def _workload(
    tasks: int | None, rps: float | None, tokens: float | None, *, rows: int, virtual_tokens: int, versions: int
) -> "Workload | None":
    """Return the workload, or None if nothing of it is given."""
    from sizing.plan import Workload

    given = {"--tasks": tasks, "--rps": rps, "--tokens": tokens}
    missing = [option for option, value in given.items() if value is None]
    if len(missing) == len(given):
        return None
    if tasks is None or rps is None or tokens is None:
        raise CommandError(f"{' and '.join(missing)} missing, expected --tasks, --rps and --tokens together")
    return Workload(
        tasks=tasks,
        requests_per_s=rps,
        text_tokens=tokens,
        rows=rows,
        virtual_tokens=virtual_tokens,
        versions=versions,
    )


def _measured(
    path: Path, backbone: BackboneOptions, precision: "Precision | None", cores: int | None
) -> "Coefficients":
    """Measure this machine and write the file."""
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):  # known before minutes of measuring
        raise CommandError(f"cannot write {path}: {folder} is not a writable directory")

    from sizing.coefficients import write
    from sizing.measuring import extent_of_this_machine, measure
    from sizing.model_timing import BackboneSource

    source = BackboneSource(
        source=backbone.backbone,
        cache_dir=backbone.cache_dir,
        revision=backbone.revision,
        offline=backbone.offline,
    )
    given = {"--backbone": backbone.backbone if backbone.is_named else None, "--precision": precision, "--cores": cores}
    words = ["superpos size --measure", path.name, *(f"{name} {value}" for name, value in given.items() if value)]
    extent = extent_of_this_machine(precision=precision, threads=cores)
    steps = iter(range(1, extent.num_steps + 1))
    found = measure(
        source,
        extent,
        command=" ".join(words),
        say=lambda step: status(f"{next(steps)} of {extent.num_steps}: {step}"),
    )
    write(found, path)
    status(f"coefficients in {path}")
    return found
