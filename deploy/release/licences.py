"""Checks the licences of the locked packages against a list: `python -m deploy.release.licences`.

Reads what each installed package states of itself, so it needs no network. A package that states no licence in SPDX's
terms is listed in `licences.toml` by the text in its wheel. Libraries inside a wheel have their own texts there.
"""

import sys
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Self

from license_expression import ExpressionError, Licensing, get_spdx_licensing
from packaging.version import Version

from deploy.release.lock import LOCK, Locked, read_lock

_TABLE = Path(__file__).with_suffix(".toml")
_CLASSIFIER = "License :: OSI Approved :: "


class LicenceUnknown(ValueError):
    """A package is not installed at its locked version, or states no licence that SPDX has."""


@dataclass(frozen=True, slots=True)
class LicenceTable:
    """The content of `licences.toml`."""

    allowed: frozenset[str]
    """SPDX identifiers, with their exception if they have one."""
    names: Mapping[str, str]
    """SPDX identifiers of other names that packages use."""
    texts: Mapping[str, str]
    """SPDX expressions of packages that state none."""

    @classmethod
    def read(cls) -> Self:
        """Read the table."""
        table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
        return cls(frozenset(table["allowed"]), table["names"], table["texts"])

    def licence_of(self, package: Locked) -> str:
        """Return an installed package's licence as an SPDX expression.

        Raises:
            LicenceUnknown: the package is not installed at its locked version, or states no licence that SPDX has
        """
        try:
            stated = metadata(package.name)
        except PackageNotFoundError:
            raise LicenceUnknown(f"{package.name} is not installed; run: make setup") from None
        if Version(stated["Version"]).public != package.version:
            raise LicenceUnknown(
                f"{package.name} {stated['Version']} is installed, locked is {package.version}; run: make setup"
            )
        classifiers = [each for each in stated.get_all("Classifier", ()) if each.startswith(_CLASSIFIER)]
        for text in [
            *stated.get_all("License-Expression", ()),
            *stated.get_all("License", ()),
            *(each.removeprefix(_CLASSIFIER) for each in classifiers),
        ]:
            expression: str = self.names.get(text, text)
            if is_expression(expression):
                return expression
        try:
            return self.texts[package.name]
        except KeyError:
            raise LicenceUnknown(
                f"{package.name} {package.version} states no licence that SPDX has; read its text and add the "
                f"package to {_TABLE.name}"
            ) from None


def is_expression(text: str) -> bool:
    """Return whether a text is an expression of licences that SPDX has."""
    try:
        return bool(text) and len(text) < 1_000 and _licensing().parse(text, validate=True) is not None
    except ExpressionError:
        return False


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Return whether an SPDX expression is satisfied by allowed licences: one of an OR, all of an AND."""
    licensing = _licensing()

    def holds(part: object) -> bool:
        if isinstance(part, licensing.OR):
            return any(holds(each) for each in part.args)
        if isinstance(part, licensing.AND):
            return all(holds(each) for each in part.args)
        return str(part) in allowed

    return holds(licensing.parse(expression, validate=True))


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()


def main(packages: Iterable[Locked] | None = None) -> int:
    """Check every package, print what was found, and return the exit status: 1 if a licence is not allowed."""
    table = LicenceTable.read()
    counts, refused = Counter[str](), list[str]()
    for package in read_lock(LOCK) if packages is None else packages:
        try:
            licence = table.licence_of(package)
        except LicenceUnknown as exc:
            refused.append(str(exc))
            continue
        counts[licence] += 1
        if not is_allowed(licence, table.allowed):
            refused.append(f"{package.name} {package.version} has the licence {licence}, which {_TABLE.name} lacks")
    print(f"{counts.total()} licences checked: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    for line in refused:
        print(line)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
