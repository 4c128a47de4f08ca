"""`superpos score`: whole files, with a server or in this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.backbone_options import BackboneOptions, backbone_options
from cli.console import CommandError, err, out, print_table, status
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption
from cli.scoring_runs import Asked, Place, Run, open_run
from cli.ui.scoring import ScoringDisplay, confusion_table, estimate_line, evaluations_table

if TYPE_CHECKING:
    from scoring.evaluation import Evaluation
    from scoring.files.opening import Reading
    from scoring.job import Job
    from scoring.outputs import Output

_INTERRUPTED = 130
_COLUMNS, _FILES, _LABELS = "Columns", "Reading and writing", "Comparison with labels"
_CLUSTER = "Cluster"


@backbone_options("device", "threads")
def score(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="TASK... INPUT...",
            help="Tasks (task, task@3, task@alias), then inputs: CSV, TSV, JSONL and Parquet files, folders, or globs "
            "in quotes.",
        ),
    ],
    *,
    out_path: Annotated[
        str,
        typer.Option("--out", metavar="OUTPUT", help="A file for one input file; a folder for several inputs."),
    ],
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
    local: Annotated[
        str | None,
        typer.Option(
            metavar="REGISTRY",
            help="Score in this process, without a server, with the tasks of a registry: a SQLite file or a Redis URL.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            rich_help_panel=_CLUSTER,
            help="Score on the Ray cluster at this address ('auto': the one of this machine, 'local': a temporary "
            "one), with the tasks of --local.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=_CLUSTER,
            help="Workers on the cluster, each with a backbone and --threads cores, by default 1, or a GPU. "
            "(default: as many as the cluster has room for)",
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(
            min=0,
            rich_help_panel=_CLUSTER,
            help="Price of an hour of a core, or of a GPU with --device cuda: print the cost with the estimate.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_COLUMNS,
            help="Column with the text, for tasks with one field. (default: the column named like the field)",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=COLUMN",
            rich_help_panel=_COLUMNS,
            help="Column of a field, for each field whose column has another name.",
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(rich_help_panel=_COLUMNS, help="Beginning of the names of all new columns.")
    ] = "",
    scores: Annotated[
        bool,
        typer.Option("--scores", rich_help_panel=_COLUMNS, help="Also write the probability of every label."),
    ] = False,
    truncate: Annotated[
        Literal["error", "start", "end"],
        typer.Option(help="Texts that are too long: error rejects them, start or end cuts them there."),
    ] = "error",
    label_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            rich_help_panel=_LABELS,
            help="Column with the right labels: print metrics, and write an HTML report. With several tasks, "
            "TASK=COLUMN for each that has one.",
        ),
    ] = None,
    label_value: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE=LABEL",
            rich_help_panel=_LABELS,
            help="Label that a value of the column means, such as 1=positive, if the column has no names.",
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(rich_help_panel=_FILES, help="Separator of CSV and TSV files. (default: detected)"),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(rich_help_panel=_FILES, help="Encoding of text files. (default: detected)")
    ] = None,
    part_rows: Annotated[
        int,
        typer.Option(
            min=1, rich_help_panel=_FILES, help="Rows that are saved together: an interruption loses at most these."
        ),
    ] = 4_096,
    restart: Annotated[
        bool,
        typer.Option("--restart", rich_help_panel=_FILES, help="Discard what an earlier run wrote to --out."),
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Try some rows, print how long all of them take, and write nothing.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print progress as lines; the default without a terminal.")
    ] = False,
    precision: Annotated[
        Literal["fp32", "int8", "bf16"],
        typer.Option(envvar="SUPERPOS_PRECISION", rich_help_panel="Backbone", help="Precision, with --local or --ray."),
    ] = "fp32",
    backbone: BackboneOptions,
) -> None:
    """Classify the rows of files and write the same rows with new columns: label, score, abstained, version, digest.

    \b
        superpos score sst2 reviews.csv --out labelled.csv
        superpos score sst2 topic 'mails/*.parquet' --text body --out labelled/
        superpos score rte pairs.jsonl --column premise=a --column hypothesis=b --out out.jsonl --local registry.sqlite
        superpos score sst2 test.csv --out scored.csv --label-column gold
        superpos score sst2 'crawl/*.parquet' --out scored/ --local redis://registry --ray auto --price 0.04

    Rows that cannot be read or answered are written to OUTPUT.rejected.jsonl with the reason. An interrupted command
    continues where it ended when it is run again; OUTPUT.manifest.json says what the answers are from.
    """
    from scoring.files.opening import Reading
    from scoring.inputs import find_inputs
    from scoring.outputs import output_of
    from scoring.tasks import AnswerOptions

    refs, inputs = _divided(arguments)
    fields, values = _pairs("--column", column), _pairs("--label-value", label_value)
    compared = _label_columns(refs, label_column)
    output = output_of(inputs, out_path)
    found = find_inputs(inputs, output)
    options = AnswerOptions(truncate=truncate, scores=scores, prefix=prefix)
    reading = Reading(separator=separator, encoding=encoding, part_rows=part_rows)
    place = Place(
        server=server,
        key=key,
        local=local,
        ray=ray,
        workers=workers,
        backbone=backbone,
        precision=precision,
    )
    place.check()
    with open_run(place, Asked(refs, text, fields), options, found, output, reading) as (job, run):
        if estimate:
            out.print(_estimated(job, run, price, trial=True))
            return
        with job.opened(restart=restart):
            _run(job, run, output, price=price, plain=plain)
    if compared:
        _compare(job, output, reading, compared, values)


def _run(job: "Job", run: Run, output: "Output", *, price: float | None, plain: bool) -> None:
    """Score what is left, and print where the results are."""
    if job.left:
        status(_estimated(job, run, price, trial=not job.is_begun))
        display = ScoringDisplay(err, total=job.num_left(), plain=plain)
        try:
            with display.live():
                run.run(display)
        except KeyboardInterrupt:
            left = job.num_left()
            err.print(f"interrupted: {left:,} rows are left; the same command continues there", style="yellow")
            raise typer.Exit(_INTERRUPTED) from None
    files = job.outputs
    rejected = sum(record.rejected for record in files.values())
    num_rows = sum(record.rows for record in files.values())
    out.print(f"{num_rows:,} rows in {output.path}")
    if rejected:
        where = output.rejected(next(iter(files))) if len(files) == 1 else f"{output.path}/*.rejected.jsonl"
        err.print(f"{rejected:,} rejected, with the reasons in {where}", style="yellow")


def _estimated(job: "Job", run: Run, price: float | None, *, trial: bool) -> str:
    with err.status("estimating"):
        estimate = run.estimate(trial=trial)
    done = sum(record.rows for record in job.outputs.values()) - estimate.num_rows
    return estimate_line(estimate, done=done, price=price)


def _compare(
    job: "Job",
    output: "Output",
    reading: "Reading",
    compared: Mapping[str, str],
    values: Mapping[str, str],
) -> None:
    """Print the metrics against columns of right labels, and write the report."""
    from scoring.evaluation import evaluate
    from scoring.report import write_report

    paths = {name: output.file(name) for name in job.outputs}
    evaluations: list[Evaluation] = []
    with err.status("comparing with the labels"):
        for task, columns in zip(job.tasks, job.encoder.columns, strict=True):
            if task.ref in compared:
                evaluations.append(
                    evaluate(
                        paths,
                        task,
                        columns,
                        label_column=compared[task.ref],
                        label_values=values,
                        reading=reading,
                    )
                )
        write_report(evaluations, job.manifest, output.report)
    print_table(evaluations_table(evaluations))
    for found in evaluations:
        if (table := confusion_table(found)) is not None:
            print_table(table)
        if found.num_unlabelled:
            err.print(
                f"{found.ref}: {found.num_unlabelled:,} rows have no label to compare with ({found.example})",
                style="yellow",
            )
    out.print(f"report: {output.report}")


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the tasks and the inputs among the arguments."""
    from scoring.inputs import is_input

    refs = [arguments[0]]
    inputs: list[str] = []
    for argument in arguments[1:]:
        if is_input(argument) or (inputs and Path(argument).exists()):
            inputs.append(argument)
        elif inputs:
            raise CommandError(f"{argument}: no such file or folder; tasks come before the inputs")
        elif Path(argument).is_dir() and argument == arguments[-1]:
            inputs.append(argument)
        else:
            refs.append(argument)
    if is_input(refs[0]):
        raise CommandError(f"expected a task before the inputs, got {refs[0]}: superpos score TASK... INPUT... --out")
    if not inputs:
        raise CommandError(f"expected an input after {' '.join(refs)}: a file, a folder, or a glob in quotes")
    if len(set(refs)) < len(refs):
        raise CommandError(f"the tasks {' '.join(refs)} repeat one")
    return refs, inputs


def _pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals or not name or not value:
            raise CommandError(f"{option} {each}: expected NAME=VALUE")
        if name in pairs:
            raise CommandError(f"{option} {each}: {name} is given twice")
        pairs[name] = value
    return pairs


def _label_columns(refs: Sequence[str], given: Sequence[str] | None) -> dict[str, str]:
    """Return the column of right labels of each task that has one."""
    if given and len(refs) == 1 and len(given) == 1:
        return {refs[0]: given[0].removeprefix(f"{refs[0]}=")}
    columns = _pairs("--label-column", given)
    for ref in columns:
        if ref not in refs:
            raise CommandError(f"--label-column {ref}={columns[ref]}: no task {ref!r}, expected {', '.join(refs)}")
    return columns
