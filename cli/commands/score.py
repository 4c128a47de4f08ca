"""`superpos score`: whole files, with a server or in this process."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.backbone_options import BackboneOptions, backbone_options
from cli.console import CommandError, err, out, print_table, status
from cli.options import DEFAULT_SERVER, MAX_RETRIES, KeyOption, ServerOption
from cli.ui.scoring import ScoringDisplay, confusion_table, estimate_line, evaluations_table

if TYPE_CHECKING:
    from scoring.evaluation import Evaluation
    from scoring.files.opening import Reading
    from scoring.job import Job
    from scoring.outputs import Output
    from scoring.scorer import Scorer
    from superpos_client import Client

_INTERRUPTED = 130
_COLUMNS, _FILES, _LABELS = "Columns", "Reading and writing", "Comparison with labels"
_CONCURRENCY, _LOCAL_CONCURRENCY = 8, 4
"""Requests of 64 rows at a time: the engine's queue is never empty, and an interruption soon ends."""


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
        typer.Option(envvar="SUPERPOS_PRECISION", rich_help_panel="Backbone", help="Precision, with --local."),
    ] = "fp32",
    backbone: BackboneOptions,
) -> None:
    """Classify the rows of files and write the same rows with new columns: label, score, abstained, version, digest.

    \b
        superpos score sst2 reviews.csv --out labelled.csv
        superpos score sst2 topic 'mails/*.parquet' --text body --out labelled/
        superpos score rte pairs.jsonl --column premise=a --column hypothesis=b --out out.jsonl --local registry.sqlite
        superpos score sst2 test.csv --out scored.csv --label-column gold

    Rows that cannot be read or answered are written to OUTPUT.rejected.jsonl with the reason. An interrupted command
    continues where it ended when it is run again; OUTPUT.manifest.json says what the answers are from.
    """
    from scoring.files.opening import Reading
    from scoring.inputs import find_inputs
    from scoring.job import Job
    from scoring.outputs import output_of
    from scoring.scorer import Scorer
    from scoring.tasks import AnswerOptions, resolve_tasks

    refs, inputs = _divided(arguments)
    fields, values = _pairs("--column", column), _pairs("--label-value", label_value)
    compared = _label_columns(refs, label_column)
    output = output_of(inputs, out_path)
    found = find_inputs(inputs, output)
    options = AnswerOptions(truncate=truncate, scores=scores, prefix=prefix)
    reading = Reading(separator=separator, encoding=encoding, part_rows=part_rows)
    with _client(server, key, local, backbone, precision) as client:
        scorer = Scorer(
            client=client,
            tasks=resolve_tasks(client, refs, text=text, columns=fields),
            options=options,
            concurrency=_CONCURRENCY if local is None else _LOCAL_CONCURRENCY,
        )
        with err.status(f"reading {len(found)} input{'s' * (len(found) != 1)}"):
            job = Job(scorer, found, output, reading)
        if estimate:
            out.print(_estimated(job, trial=True))
            return
        with job.opened(restart=restart):
            _run(job, output, plain=plain)
    if compared:
        _compare(job, scorer, output, reading, compared, values)


def _run(job: "Job", output: "Output", *, plain: bool) -> None:
    """Score what is left, and print where the results are."""
    if job.left:
        status(_estimated(job, trial=not job.is_begun))
        display = ScoringDisplay(err, total=job.num_left(), plain=plain)
        try:
            with display.live():
                job.run(display)
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


def _estimated(job: "Job", *, trial: bool) -> str:
    with err.status("estimating"):
        estimate = job.estimate(trial=trial)
    return estimate_line(estimate, done=sum(record.rows for record in job.outputs.values()) - estimate.num_rows)


def _compare(
    job: "Job",
    scorer: "Scorer",
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
        for task, columns in zip(scorer.tasks, job.columns, strict=True):
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


@contextmanager
def _client(
    server: str, key: str | None, local: str | None, backbone: BackboneOptions, precision: str
) -> Iterator["Client"]:
    """Make a client of the server, or of an engine in this process."""
    from cli.targets.opening import require_registry
    from cli.targets.server import open_client
    from superpos_client import Client

    if local is None:
        with open_client(server, key, max_retries=MAX_RETRIES) as client:
            yield client
        return
    require_registry(local)
    with err.status("loading the backbone"):
        engine = Client.local(
            local,
            backbone=backbone.backbone,
            cache_dir=backbone.cache_dir,
            revision=backbone.revision,
            offline=backbone.offline,
            device=backbone.device,
            threads=backbone.threads,
            precision=precision,
            bundled=False,
            require_keys=False,
            # one caller: nothing to protect others from
            max_queue_rows=1 << 20,
            max_queue_tokens=1 << 30,
            max_timeout_ms=3_600_000,
        )
    with engine as client:
        yield client


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
