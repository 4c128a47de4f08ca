"""Makes the files of a release from a commit: `python -m deploy.release`.

- `python -m deploy.release`: wheels and source distributions of server and client, the locked requirements, the bill of
  materials, and the checksums of all, in `dist`
- `python -m deploy.release --commit v0.1.0 --out release`: of another commit, into another folder

The same commit makes the same bytes: files have the time of the commit, and what is not committed is left out. The
build backend and the packages whose licences are read are those of requirements/dev.txt.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.release.distributions import BuildFailed, uncommitted
from deploy.release.files import CHECKSUMS, make_release
from deploy.release.licences import LicenceUnknown
from deploy.release.lock import ROOT


def main(
    commit: Annotated[str, typer.Option(help="Commit or tag.")] = "HEAD",
    out: Annotated[Path, typer.Option(help="Folder of the files, created if missing.")] = ROOT / "dist",
) -> None:
    try:
        files = make_release(commit, out)
        left_out = uncommitted() if commit == "HEAD" else []
    except (BuildFailed, LicenceUnknown) as exc:
        sys.exit(f"release: {exc}")
    for file in files:
        print(f"{file.stat().st_size:>11,} bytes  {file}")
    print((out / CHECKSUMS).read_text(encoding="ascii"), end="")
    if left_out:
        print(f"left out, since it is not committed: {', '.join(line[3:] for line in left_out)}")


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
app.command(help=__doc__)(main)

if __name__ == "__main__":
    app()
