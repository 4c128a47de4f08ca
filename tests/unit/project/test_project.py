"""The project itself: names, structure, documents."""

import re
import tomllib
from pathlib import Path

import adapters
import backbone

ROOT = Path(__file__).parents[3]
PACKAGES = ("backbone", "adapters", "training", "service", "cli", "benchmarks", "deploy")


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_the_adapters_imported_are_ours_and_not_adapter_hubs() -> None:
    assert adapters.SUPERPOS is True
    assert Path(adapters.__file__).parent.parent == Path(backbone.__file__).parent.parent


def test_the_structure_document_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^- `([\w/]+\.py)`:", text, flags=re.MULTILINE))
    existing = {str(path.relative_to(ROOT)) for path in modules() if path.name != "__init__.py"}
    assert named == existing


def test_no_module_is_longer_than_three_hundred_lines() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_every_module_says_what_it_owns() -> None:
    assert [path for path in modules() if not path.read_text(encoding="utf-8").startswith('"""')] == []


def test_the_locked_requirements_name_no_host() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "+cpu" not in text
        assert "--index-url" not in text


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = (ROOT / "requirements/lock.txt").read_text(encoding="utf-8")
    for requirement in project["dependencies"]:
        name = re.split(r"[><=\[]", requirement)[0]
        assert re.search(rf"^{re.escape(name)}==", locked, flags=re.MULTILINE | re.IGNORECASE), name


def test_links_in_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
