"""Pins against advisories: no image and no package is one that a published advisory names, and the audit says so."""

import json
from pathlib import Path

import pytest

from deploy.audit import LOCKS, ROOT, advisories, known_faults, locked_packages, main, pinned_images

TABLE = advisories()
LAST_BEFORE = {
    "redis": "7.4.2-alpine3.21",
    "caddy": "2.9.1-alpine",
    "prom/prometheus": "v3.1.0",
    "grafana/grafana": "11.4.0",
    "debian": "12.12-slim",
}
"""The pins that were replaced."""


def test_no_image_is_older_than_the_fix_of_a_known_advisory() -> None:
    assert known_faults(pinned_images(), TABLE) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_locked_package_is_older_than_the_fix_of_a_known_advisory(lock: str) -> None:
    assert known_faults(locked_packages(lock), TABLE) == []


def test_every_image_has_its_advisories_and_every_advisory_is_of_something_pinned() -> None:
    images, packages = pinned_images(), locked_packages(LOCKS[0])
    assert set(images) == set(LAST_BEFORE)
    assert {each.subject for each in TABLE if not each.subject.startswith("pypi:")} == set(images)
    assert {each.subject for each in TABLE if each.subject.startswith("pypi:")} <= set(packages)
    assert all(each.source.startswith("https://") for each in TABLE)
    assert len({(each.subject, each.advisory) for each in TABLE}) == len(TABLE)


@pytest.mark.parametrize("image", LAST_BEFORE)
def test_an_older_pin_is_found_by_its_advisories(image: str) -> None:
    faults = known_faults({image: LAST_BEFORE[image]}, TABLE)
    assert len(faults) == sum(each.subject == image for each in TABLE)
    assert all("fixed in" in line and "https://" in line for line in faults)


@pytest.mark.parametrize("tag", ["latest", "alpine", "edge-1"])
def test_a_tag_without_a_version_is_not_taken_for_a_fixed_one(tag: str) -> None:
    assert known_faults({"redis": tag}, TABLE) != []


def test_a_package_below_a_fix_is_found() -> None:
    assert known_faults({"pypi:urllib3": "2.7.0"}, TABLE) != []
    assert known_faults({"pypi:urllib3": "2.10.0"}, TABLE) == []  # versions are numbers, not text


# --- the audit by pip-audit, whose answers a program of the tests gives


def answering(tmp_path: Path, *, text: str, status: int) -> Path:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def report(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


SAFE = {"name": "anyio", "version": "4.16.0", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited"}
FAULTY = {"name": "h11", "version": "0.16.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.17"], "aliases": []}]}


def test_the_audit_fails_for_a_fault_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(answering(tmp_path, text=report(SAFE, FAULTY), status=1))]) == 1
    assert "h11 0.16.0: PYSEC-1, fixed in 0.17" in capsys.readouterr().out


def test_the_audit_passes_and_names_what_was_not_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(answering(tmp_path, text=report(SAFE, UNKNOWN), status=0))]) == 0
    out = capsys.readouterr().out
    assert "not audited in requirements/lock.txt: torch" in out
    assert "SKIPPED" not in out


@pytest.mark.parametrize("text", [report(UNKNOWN), "", "Traceback (most recent call last):"])
def test_the_audit_without_a_network_is_skipped_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert main([str(answering(tmp_path, text=text, status=1))]) == 0
    assert capsys.readouterr().out.count("SKIPPED: requirements/") == len(LOCKS)


def test_the_audit_without_pip_audit_is_skipped_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "no-such-program")]) == 0
    assert main([]) == 0
    assert capsys.readouterr().out.count("SKIPPED") == len(LOCKS) + 1


def test_continuous_integration_audits() -> None:
    assert "\nmake audit\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
