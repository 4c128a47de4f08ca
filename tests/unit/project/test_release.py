"""The files of a release: distributions that are complete and reproducible, the bill of materials, the licences."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import hatchling.build
import pytest
from cyclonedx.validation.json import JsonStrictValidator

from deploy.release.distributions import BuildFailed, export
from deploy.release.files import make_release
from deploy.release.licences import LicenceTable, LicenceUnknown, is_allowed, main
from deploy.release.lock import LOCK, ROOT, Locked, only_for, read_lock
from deploy.release.sbom import SCHEMA, project_version, write_bill

EPOCH = 1_700_000_000
PACKAGES = read_lock(LOCK)
OURS = ("adapters", "backbone", "cli", "scoring", "service", "sizing", "trainer", "training", "client/superpos_client")


def wheel_of(project: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build a wheel in this process, with the backend that `pip` and `build` call."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(EPOCH))
    monkeypatch.chdir(project)
    out.mkdir()
    return out / hatchling.build.build_wheel(str(out))


@pytest.mark.slow
def test_the_wheel_has_every_file_of_its_packages_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        path.relative_to((ROOT / package).parent).as_posix(): path
        for package in OURS
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel_of(ROOT, tmp_path / "out", monkeypatch)) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert inside == expected.keys()
        data = [name for name in inside if not name.endswith(".py")]
        assert {"adapters/bundled/sst2/adapter_model.safetensors", "superpos_client/py.typed"} <= set(data)
        for name in data:
            assert wheel.read(name) == expected[name].read_bytes(), name


@pytest.mark.slow
def test_a_wheel_does_not_depend_on_the_times_and_modes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "client"
    shutil.copytree(ROOT / "client", other, ignore=shutil.ignore_patterns("__pycache__"))
    for number, path in enumerate(path for path in other.rglob("*") if path.is_file()):
        path.chmod(0o600)
        os.utime(path, (EPOCH + number, EPOCH + number))
    first, second = (
        wheel_of(project, tmp_path / out, monkeypatch) for project, out in ((ROOT / "client", "a"), (other, "b"))
    )
    assert first.read_bytes() == second.read_bytes()


def test_a_release_is_made_of_what_is_committed(tmp_path: Path) -> None:
    export("HEAD", tmp_path)
    assert (tmp_path / "pyproject.toml").is_file()
    assert not (tmp_path / ".venv").exists()
    with pytest.raises(BuildFailed, match=r"git log: fatal: .*no-such-tag"):
        make_release("no-such-tag", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- the lock


def test_the_lock_says_which_package_requires_which() -> None:
    by_name = {package.name: package for package in PACKAGES}
    assert by_name["fastapi"].required_by == {"fastapi-offline", "superpos"}
    assert by_name["certifi"].required_by == {"requests"}
    assert all(package.required_by <= by_name.keys() | {"superpos"} for package in PACKAGES)
    assert all(package.required_by for package in PACKAGES)


def test_packages_that_others_require_too_are_not_for_one_alone() -> None:
    packages = [
        Locked("plots", "1", frozenset({"superpos"})),
        Locked("fonts", "1", frozenset({"plots"})),
        Locked("glyphs", "1", frozenset({"fonts"})),
        Locked("numbers", "1", frozenset({"plots", "model"})),
        Locked("model", "1", frozenset({"superpos"})),
    ]
    assert only_for({"plots"}, packages) == {"plots", "fonts", "glyphs"}
    assert only_for({"plots", "model"}, packages) == {each.name for each in packages}


# --- the bill of materials


def test_the_bill_of_materials_is_valid_complete_and_the_same_each_time(tmp_path: Path) -> None:
    path = write_bill(ROOT, tmp_path / "one", time=EPOCH)
    text = path.read_text(encoding="utf-8")
    assert path.name == f"superpos-{project_version(ROOT)}.cdx.json"
    assert write_bill(ROOT, tmp_path / "two", time=EPOCH).read_text(encoding="utf-8") == text
    assert JsonStrictValidator(SCHEMA).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/superpos@{project_version(ROOT)}"
    assert {each["purl"] for each in bill["components"]} == {
        f"pkg:pypi/{each.name}@{each.version}" for each in PACKAGES
    }
    assert all(each["licenses"] for each in bill["components"])
    required = {each["ref"].split("@")[0]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert {name.split("@")[0].removeprefix("pkg:pypi/") for name in required["pkg:pypi/jinja2"]} == {"markupsafe"}
    roots = {each.name for each in PACKAGES if "superpos" in each.required_by}
    assert {name.split("@")[0].removeprefix("pkg:pypi/") for name in required["pkg:pypi/superpos"]} == roots


# --- licences


def test_every_locked_package_has_an_allowed_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out
    assert f"{len(PACKAGES)} licences checked" in capsys.readouterr().out


def test_a_licence_that_is_not_allowed_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    tool = Locked("codespell", version("codespell"), frozenset({"superpos"}))
    assert main([tool]) == 1
    assert (
        f"codespell {tool.version} has the licence GPL-2.0-only, which licences.toml lacks" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (Locked("no-such-package", "1", frozenset()), r"no-such-package is not installed; run: make setup"),
        (Locked("fastapi", "0.0.1", frozenset()), r"fastapi [\d.]+ is installed, locked is 0\.0\.1; run: make setup"),
    ],
)
def test_a_package_that_cannot_be_read_fails_the_check(
    package: Locked, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LicenceUnknown, match=expected):
        LicenceTable.read().licence_of(package)
    assert main([package]) == 1
    assert "run: make setup" in capsys.readouterr().out


def test_the_table_names_only_packages_that_state_nothing_themselves() -> None:
    table = LicenceTable.read()
    locked = {package.name: package for package in PACKAGES}
    alone = LicenceTable(table.allowed, table.names, texts={})
    for name in table.texts:
        with pytest.raises(LicenceUnknown, match=f"{name} .* states no licence that SPDX has; read its text"):
            alone.licence_of(locked[name])


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (Apache-2.0 OR GPL-3.0-only)", True),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("GPL-3.0-only WITH GCC-exception-3.1", True),
    ],
)
def test_a_choice_needs_one_allowed_licence_and_a_combination_all(expression: str, *, allowed: bool) -> None:
    assert is_allowed(expression, {"MIT", "Apache-2.0", "GPL-3.0-only WITH GCC-exception-3.1"}) is allowed
