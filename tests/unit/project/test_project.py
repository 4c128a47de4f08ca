"""The project itself: names, structure, documents."""

import re
import tomllib
from pathlib import Path

import adapters
import backbone

ROOT = Path(__file__).parents[3]
PACKAGES = ("backbone", "adapters", "training", "service", "cli", "benchmarks", "verification", "deploy", "scripts")


def test_the_adapters_imported_are_ours_and_not_adapter_hubs() -> None:
    assert adapters.SUPERPOS is True
    assert Path(adapters.__file__).parent.parent == Path(backbone.__file__).parent.parent


def test_the_structure_document_names_every_package_and_no_path_that_is_missing() -> None:
    text = (ROOT / "docs/structure.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", text))
    packages = {path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert {f"{path}/" for path in packages if len(path.parts) <= 2} <= named
    assert [path for path in named if not (ROOT / path).exists()] == []


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
