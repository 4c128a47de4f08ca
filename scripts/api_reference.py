"""API reference: writes `docs/reference.md` from the server's OpenAPI document.

python -m scripts.api_reference            # write it
python -m scripts.api_reference --check    # fail if it differs
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader

from service.app import create_app
from service.settings import Settings

TARGET = Path(__file__).parents[1] / "docs" / "reference.md"
_REF = "#/components/schemas/"
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}
_MAX_VALUES = 12
"""Values of an enumeration that are listed."""

Json = Mapping[str, Any]


def reference(document: Json) -> str:
    """Return the reference of an OpenAPI document as Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"type": type_of, "meaning": _meaning, "lines": _lines, "anchor": _anchor}
    environment.filters["json"] = json.dumps
    by_tag: dict[str, list[Json]] = {}
    for tag, operation in _operations(document):
        by_tag.setdefault(tag, []).append(operation)
    text = environment.get_template("api_reference.md.jinja").render(
        tags=[{"name": name, "operations": found} for name, found in by_tag.items()],
        schemas=sorted(document["components"]["schemas"].items()),
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def type_of(schema: Json) -> str:
    """Return a schema in words, as Markdown for a cell of a table."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REF)
        return f"[{name}](#{_anchor(name)})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(type_of(each) for each in schema[several]))
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        shown = ", ".join(f"`{json.dumps(value)}`" for value in values[:_MAX_VALUES])
        return shown if len(values) <= _MAX_VALUES else f"{shown}, …"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        items = schema.get("items")
        if items is None and "prefixItems" in schema:
            return f"list of {', '.join(type_of(each) for each in schema['prefixItems'])}"
        each = type_of(items or {})
        kind = f"list of ({each})" if " or " in each else f"list of {each}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {type_of(schema['additionalProperties'])}"
    bounds = [text.format(f"{schema[name]:,.15g}") for name, text in _BOUNDS.items() if name in schema]
    return ", ".join([kind, *bounds])


def _operations(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield each operation with its tag, in the document's order."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers, problems = [], []
            for status, answer in sorted(operation["responses"].items()):
                content = answer.get("content", {})
                if not status.startswith("2"):
                    problems.append(status)
                elif content:
                    answers += [(status, media, each.get("schema", {})) for media, each in content.items()]
                else:
                    answers.append((status, "", {}))
            body = operation.get("requestBody", {}).get("content", {})
            tag = (operation.get("tags") or ["other"])[0]
            yield (
                tag,
                {
                    "method": method.upper(),
                    "path": path,
                    "title": f"{method.upper()} {path}",
                    "description": _lines(operation.get("description") or operation.get("summary", "")),
                    "parameters": operation.get("parameters", []),
                    "bodies": [(media, each.get("schema", {})) for media, each in body.items()],
                    "answers": answers,
                    "problems": problems,
                },
            )


def _meaning(value: Json) -> str:
    """Return a description as a cell of a table."""
    text = value.get("description") or value.get("schema", {}).get("description") or ""
    return " ".join(str(text).split()).replace("|", "\\|")


def _lines(text: str) -> str:
    """Return a description with one paragraph per line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _anchor(title: str) -> str:
    """Return the anchor that Markdown viewers give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def main(check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if it differs.")] = False) -> None:
    """Write the API reference."""
    text = reference(create_app(Settings()).openapi())
    if not check:
        TARGET.write_text(text, encoding="utf-8")
    elif text != TARGET.read_text(encoding="utf-8"):
        raise SystemExit(f"{TARGET} is not current: run python -m scripts.api_reference")


if __name__ == "__main__":
    typer.run(main)
