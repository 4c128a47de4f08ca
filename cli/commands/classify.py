"""`superpos classify`: query a running server."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from cli.console import CommandError, err, out, print_table
from cli.options import DEFAULT_SERVER, MAX_RETRIES, KeyOption, ServerOption
from cli.targets.lines import classify_lines
from cli.targets.server import open_client
from superpos_client import Prediction, SuperposError
from superpos_client.answers import ANSWER_FIELDS


def classify(
    ref: Annotated[str, typer.Argument(help="task, task@3, task@alias or task@sha256:…")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to classify, or JSON objects for a task with several fields. (default: lines of standard input)"
        ),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
    truncate: Annotated[
        Literal["error", "start", "end"],
        typer.Option(help="Texts that are too long: error refuses them, start or end cuts them there."),
    ] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's response as JSON.")] = False,
) -> None:
    """Classify texts with a running server, any number of them: the command splits them into requests.

    A text that the server refuses is reported by its line, and the others are still classified; the exit status is
    then 1.

    \b
        superpos classify sst2 "a gripping film" "flat and overlong"
        superpos classify rte '{"premise": "It rains.", "hypothesis": "It is wet."}'
        cut -f2 reviews.tsv | superpos classify sst2 --json
    """
    lines = texts or _standard_input()
    if not lines:
        raise CommandError("nothing to classify: give texts as arguments or on standard input")
    client = open_client(server, key, max_retries=MAX_RETRIES)
    with err.status("classifying") as shown:
        outcomes = classify_lines(
            client,
            ref,
            lines,
            truncate=truncate,
            on_progress=lambda state: shown.update(out.render_str(f"classifying: {state}")),
        )
    refusals = [(number, each) for number, each in enumerate(outcomes, 1) if isinstance(each, SuperposError)]
    if len(lines) == 1 and refusals:
        raise refusals[0][1]
    if as_json:
        out.print_data({**_head(outcomes), "predictions": list(map(_json, outcomes))})
    else:
        print_table(_table(outcomes, lines))
        for number, each in enumerate(outcomes, 1):
            for note in _notes(each):
                err.print(f"line {number}: {note}", style="yellow")
    for number, refusal in refusals:
        err.print(f"line {number}: {refusal.reason}", style="yellow")
    if refusals:
        raise CommandError(f"{len(refusals)} of {len(lines)} lines were refused")


def _standard_input() -> list[str]:
    """Read lines as UTF-8; other bytes become surrogates, so that only their line is refused."""
    text = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _head(outcomes: Sequence[Prediction | SuperposError]) -> dict[str, Any]:
    """Return the version that answered; empty if every line was refused."""
    first = next((each for each in outcomes if isinstance(each, Prediction)), None)
    if first is None:
        return {}
    return {
        "task": first.task,
        "version": first.version,
        "adapter": first.digest,
        "backbone": first.backbone,
        "precision": first.precision,
    }


def _json(outcome: Prediction | SuperposError) -> dict[str, Any]:
    """Return a prediction as the server's, or the reason of a refusal."""
    if isinstance(outcome, SuperposError):
        return {"refused": outcome.reason}
    return outcome.model_dump(mode="json", exclude=set(ANSWER_FIELDS))


def _notes(outcome: Prediction | SuperposError) -> list[str]:
    """Return why an answer may mean less than it seems."""
    if isinstance(outcome, SuperposError):
        return []
    notes = [f"field {name!r} was truncated by {lost} tokens" for name, lost in outcome.lost_tokens.items()]
    if (share := outcome.unknown_tokens) is not None:
        notes.append(f"the backbone has no pieces for {100 * share:.0f} % of the characters, so the label means little")
    return notes


def _table(outcomes: Sequence[Prediction | SuperposError], lines: Sequence[str]) -> Table:
    head = _head(outcomes)
    table = Table(
        "label", "score", "text", title=f"{head['task']}@{head['version']} {head['adapter'][:19]}" if head else None
    )
    for line, outcome in zip(lines, outcomes, strict=True):
        if isinstance(outcome, SuperposError):
            table.add_row("refused", "", line)
        else:
            table.add_row(*_label_and_score(outcome), line)
    return table


def _label_and_score(prediction: Prediction) -> tuple[str, str]:
    """Return the label and its score in words; of a multi-label task, all labels of the text."""
    labels = prediction.labels
    if labels is None:
        return prediction.label, f"{prediction.score:.3f}"
    if not labels:
        return "no label", ""
    scores = prediction.scores
    return ", ".join(labels), ", ".join(f"{scores[label]:.3f}" for label in labels if label in scores)
