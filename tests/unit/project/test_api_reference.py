"""The API reference is that of the server's OpenAPI document; the answers that documents show have all members."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.api_reference import TARGET, reference, type_of
from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_the_reference_is_current(document: dict[str, Any]) -> None:
    assert TARGET.read_text(encoding="utf-8") == reference(document), "run python -m scripts.api_reference"


def test_every_link_of_the_reference_leads_to_a_heading() -> None:
    text = TARGET.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


def test_types_are_words() -> None:
    assert type_of({"type": "integer", "minimum": 1.0, "maximum": 1000}) == "integer, at least 1, at most 1,000"
    assert type_of({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}) == (
        "list of (string or null)"
    )
    assert type_of({"enum": ["a", "b"]}) == '`"a"`, `"b"`'
    assert type_of({"$ref": "#/components/schemas/Job"}) == "[Job](#job)"
    assert type_of({"type": "object", "additionalProperties": {"type": "number"}}) == "object of number"


@pytest.mark.parametrize("name", ["README.md", "docs/api.md"])
def test_the_answer_that_a_document_shows_has_all_members(name: str, document: dict[str, Any]) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```json\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    shown = next(json.loads(block) for block in blocks if '"predictions"' in block)
    schemas = document["components"]["schemas"]
    assert shown.keys() == schemas["ClassifyResponse"]["properties"].keys()
    assert shown["predictions"][0].keys() == schemas["Prediction"]["properties"].keys()
