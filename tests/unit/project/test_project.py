"""The project itself: names, structure, documents."""

import re
import tomllib
from pathlib import Path

import yaml

import adapters
import backbone
from service.settings import Settings

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "backbone", "adapters", "training", "service", "scoring", "sizing", "trainer", "cli", "client",
    "benchmarks", "verification", "deploy", "scripts",
)  # fmt: skip


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


TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table_and_nothing_else_is() -> None:
    table = TEXT.split("## Settings")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(Settings.model_fields)


def test_every_alert_is_in_the_incident_table_and_no_other() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert alerts == set(re.findall(r"`(Superpos\w+)`", TEXT.split("## Incidents")[1]))


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert {"platform", "secrets", "image"} <= named
    assert named <= targets
