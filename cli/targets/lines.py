"""Lines of text as rows: texts, or JSON objects with the fields of a task."""

from collections.abc import Callable, Sequence

from adapters import strict_json
from adapters.strict_json import AmbiguousJson
from superpos_client import Client, Invalid, Prediction, Row, SuperposError
from superpos_client.answers import Truncate


def classify_lines(
    client: Client, ref: str, lines: Sequence[str], *, truncate: Truncate, on_progress: Callable[[str], None]
) -> list[Prediction | SuperposError]:
    """Classify lines, all by one version; return the prediction for each, or why there is none.

    Args:
        client: of the server
        ref: the task
        lines: texts, or JSON objects
        truncate: which end of long texts to cut
        on_progress: called with the state in words

    Raises:
        SuperposError: no line could be answered, for example an unknown task
    """
    client.with_options(max_retries=0).limits()  # a server that is not there is reported at once
    rows = list(map(_row, lines))
    outcomes = client.classify_many(
        ref,
        (row for row in rows if not isinstance(row, SuperposError)),
        on_error="return",
        truncate=truncate,
        pin=True,
        on_wait=lambda seconds, error: on_progress(f"waiting {seconds:g} s: {error.reason}"),
    )
    found: list[Prediction | SuperposError] = []
    for row in rows:
        on_progress(f"line {len(found) + 1} of {len(rows)}")
        found.append(row if isinstance(row, SuperposError) else next(outcomes))
    return found


def _row(line: str) -> Row | SuperposError:
    """Return the fields that a line holds as a JSON object, or else the line; an error for a repeated key."""
    if not line.lstrip().startswith("{"):
        return line
    try:
        value = strict_json.loads(line)
    except AmbiguousJson as exc:
        return Invalid(str(exc), code="invalid_input", detail=str(exc))
    except (ValueError, RecursionError):
        return line  # a text that begins with a brace
    return value if isinstance(value, dict) else line
