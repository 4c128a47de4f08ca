"""Writes the software bill of materials in CycloneDX' form: `python -m deploy.release.sbom`.

It has the locked packages with their licences, and which package requires which. The same lock makes the same bytes.
"""

import sys
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

import typer
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from deploy.release.distributions import BuildFailed, commit_time
from deploy.release.licences import LicenceTable, LicenceUnknown
from deploy.release.lock import PROJECT, ROOT, Locked, read_lock

SCHEMA = SchemaVersion.V1_6
_LICENCE = "Apache-2.0"


def bill_of_materials(packages: Iterable[tuple[Locked, str]], *, version: str, time: datetime) -> str:
    """Return the bill of materials as JSON.

    Args:
        packages: locked packages, each with its licence as an SPDX expression
        version: version of the project
        time: when the source was made, not the bill
    """
    listed = list(packages)
    components = {each.name: _component(each.name, each.version, licence) for each, licence in listed}
    project = _component(PROJECT, version, _LICENCE, type_=ComponentType.APPLICATION)
    name = "\n".join(str(each.purl) for each in (project, *components.values()))
    bom = Bom(components=components.values(), serial_number=uuid5(NAMESPACE_URL, name))
    bom.metadata.component = project
    bom.metadata.timestamp = time
    for component in (project, *components.values()):
        required = (each.name for each, _ in listed if component.name in each.required_by)
        bom.register_dependency(component, [components[name] for name in required])
    return make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string(indent=2) + "\n"


def _component(name: str, version: str, licence: str, *, type_: ComponentType = ComponentType.LIBRARY) -> Component:
    url = PackageURL("pypi", name=name, version=version)
    stated = LicenseFactory().make_from_string(licence, license_acknowledgement=LicenseAcknowledgement.DECLARED)
    return Component(name=name, version=version, type=type_, purl=url, bom_ref=str(url), licenses=[stated])


def write_bill(root: Path, folder: Path, *, time: int) -> Path:
    """Write the bill of materials of a source tree's lock, and return its path.

    Args:
        root: folder of the project's files
        folder: folder to write into, created if missing
        time: when the source was made, in seconds since 1970

    Raises:
        LicenceUnknown: a locked package is not installed at its version, or states no licence that SPDX has
    """
    table = LicenceTable.read()
    packages = [(each, table.licence_of(each)) for each in read_lock(root / "requirements" / "lock.txt")]
    version = project_version(root)
    folder.mkdir(parents=True, exist_ok=True)
    # the ending by which tools recognise CycloneDX
    path = folder / f"{PROJECT}-{version}.cdx.json"
    path.write_text(bill_of_materials(packages, version=version, time=datetime.fromtimestamp(time, UTC)), "utf-8")
    return path


def project_version(root: Path) -> str:
    """Return the version of the project whose files are in a folder."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def main(out: Annotated[Path, typer.Option(help="Folder of the file, created if missing.")] = ROOT / "dist") -> None:
    """Write the bill of materials of requirements/lock.txt."""
    try:
        print(write_bill(ROOT, out, time=commit_time()))
    except (BuildFailed, LicenceUnknown) as exc:
        sys.exit(f"sbom: {exc}")


if __name__ == "__main__":
    typer.run(main)
