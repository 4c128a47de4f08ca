"""Checks the deployed images and Python packages against published advisories.

`python -m deploy.audit [pip-audit]` first checks the pins against `advisories.csv`, which needs no network, and then
asks pip-audit about every locked package. If pip-audit is missing or has no network, that part is reported as SKIPPED.
"""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.version import Version

from deploy.release.lock import ROOT, read_lock

LOCKS = ("requirements/lock.txt", "requirements/dev.txt")
_TABLE = Path(__file__).parent / "advisories.csv"
_VERSION = re.compile(r"v?(\d+(?:\.\d+)+)")
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Advisory:
    """A published vulnerability or fault of an image, or of a Python package (`pypi:<name>`)."""

    subject: str
    advisory: str
    fixed: Version
    """The first version of the pinned line without the fault."""
    source: str


def advisories() -> list[Advisory]:
    """Return the rows of `advisories.csv`."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return [
            Advisory(row["subject"], row["advisory"], Version(row["fixed"]), row["source"])
            for row in csv.DictReader(file)
        ]


def pinned_images() -> dict[str, str]:
    """Return the tags of the platform's foreign images and of our own image's base, by name."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"].values()
    images = [service["image"] for service in services if "build" not in service]
    images += re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(image.rsplit(":", 1) for image in images)


def locked_packages(lock: str) -> dict[str, str]:
    """Return the versions of a lock file, by `pypi:<name>`."""
    return {f"pypi:{each.name}": each.version for each in read_lock(ROOT / lock)}


def known_faults(pins: Mapping[str, str], table: Iterable[Advisory]) -> list[str]:
    """Return one line for each advisory that affects a pin."""
    lines = []
    for each in table:
        tag = pins.get(each.subject)
        found = None if tag is None else _VERSION.match(tag)
        if tag is not None and (found is None or Version(found.group(1)) < each.fixed):
            lines.append(f"{each.subject} {tag}: {each.advisory}, fixed in {each.fixed} ({each.source})")
    return lines


def reported_faults(pip_audit: Path, lock: str) -> list[str] | None:
    """Ask pip-audit about a lock file; return one line per fault, or None if nothing could be audited."""
    command = [str(pip_audit), "-r", lock, "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as exc:
        print(f"SKIPPED: {lock} is not audited, pip-audit gave no report ({type(exc).__name__}): no network?")
        return None
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        print(f"SKIPPED: {lock} is not audited, the advisory service knows none of its {len(packages)} packages")
        return None
    if unknown:
        print(f"not audited in {lock}: {', '.join(unknown)}")
    return [
        f"{package['name']} {package['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]


def main(arguments: list[str]) -> int:
    """Check everything, print what was found, and return the exit status: 1 if a fault is known."""
    table = advisories()
    faults = known_faults(pinned_images(), table)
    for lock in LOCKS:
        faults += known_faults(locked_packages(lock), table)
    print(f"{len(table)} advisories of {_TABLE.name} checked")
    if not arguments:
        print("SKIPPED: only the table was checked, since no path of pip-audit was given (make audit gives it)")
    for lock in LOCKS if arguments else ():
        faults += reported_faults(Path(arguments[0]).absolute(), lock) or []
    for line in dict.fromkeys(faults):
        print(line)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
