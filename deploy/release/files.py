"""The files of a release, made from a commit."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from deploy.release.distributions import build, commit_time, export
from deploy.release.lock import PROJECT
from deploy.release.sbom import project_version, write_bill

CHECKSUMS = "SHA256SUMS"


def make_release(commit: str, out: Path) -> list[Path]:
    """Write the files of a release and return them, the checksums last.

    Args:
        commit: what git calls the commit
        out: folder of the files, created if missing; files of the same names are replaced

    Raises:
        BuildFailed: the commit does not exist, or does not build
        LicenceUnknown: a locked package is not installed at its version, or states no licence that SPDX has
    """
    time = commit_time(commit)
    with tempfile.TemporaryDirectory() as name:
        tree, made = Path(name) / "tree", Path(name) / "made"
        export(commit, tree)
        for project in (tree, tree / "client"):
            build(project, made, time=time)
        write_bill(tree, made, time=time)
        shutil.copyfile(
            tree / "requirements" / "lock.txt", made / f"{PROJECT}-{project_version(tree)}-requirements.txt"
        )
        files = sorted(made.iterdir())
        lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
        (made / CHECKSUMS).write_text("".join(lines), encoding="ascii")
        out.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(file, out / file.name)) for file in (*files, made / CHECKSUMS)]
