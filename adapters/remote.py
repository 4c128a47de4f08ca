"""Adapters at URLs: `hf://` (Hugging Face Hub), `s3://` (object stores) and `file://`, read through fsspec.

What a URL names is as untrusted as an upload: only the files of an adapter are read, each up to its size limit, links
and devices are refused, and a digest after `#` has to be that of the files. Credentials are those of each store's
library (`HF_TOKEN`, `AWS_PROFILE`, …); a URL has none, so that it may be shown.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import httpx2

from adapters.errors import InvalidAdapter, InvalidName
from adapters.files import CONFIG, MANIFEST, SIZE_LIMITS, from_files, read_folder

SCHEMES = ("hf", "s3", "file")
_RULE = "hf://owner/name[@revision][/folder], s3://bucket/folder or file:///folder, and #sha256:… to pin its digest"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "hf": {},
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 3}}},
}
_FAILURES = (OSError, ValueError, NotImplementedError, httpx2.HTTPError)
"""Errors of fsspec and of the Hub's library for a folder that cannot be read. `_failures` adds those of botocore."""


@dataclass(frozen=True, slots=True)
class AdapterUrl:
    """A folder of an adapter's files at a URL."""

    scheme: str
    folder: str
    """The URL without its digest, as fsspec reads it."""
    digest: str | None
    """Digest that the adapter must have; None if any will do."""

    @classmethod
    def parse(cls, text: str) -> "AdapterUrl":
        """Read a URL.

        Raises:
            InvalidName: another scheme, credentials, a query, or a malformed digest; without what may be a password
        """
        folder, _, digest = text.partition("#")
        scheme, separator, rest = folder.partition("://")
        shown = f"{scheme}://…" if separator else text
        if scheme not in SCHEMES or not rest.strip("/") or "?" in rest:
            raise InvalidName("adapter URL", shown, _RULE)
        if scheme != "hf" and "@" in rest.partition("/")[0]:
            raise InvalidName("adapter URL", shown, "no credentials in it, but in the environment of the library")
        if scheme == "file" and urlsplit(folder).netloc not in ("", "localhost"):
            raise InvalidName("adapter URL", text, "file:/// and a path of this machine")
        if digest and not _DIGEST.fullmatch(digest):
            raise InvalidName("digest", digest, "sha256: and 64 hexadecimal digits")
        return cls(scheme, folder.rstrip("/"), digest or None)

    def read(self) -> dict[str, bytes]:
        """Read the files of the adapter.

        Raises:
            InvalidAdapter: no such folder, no access to it, not an adapter's files, or those of another digest
        """
        files = read_folder(Path(unquote(urlsplit(self.folder).path))) if self.scheme == "file" else self._fetch()
        if files.keys().isdisjoint((MANIFEST, CONFIG)):
            raise InvalidAdapter(self.folder, "a folder without an adapter", f"{MANIFEST} or {CONFIG} in it")
        if self.digest is not None and (found := from_files(files).digest) != self.digest:
            raise InvalidAdapter(f"digest of {self.folder}", found, self.digest)
        return files

    def _fetch(self) -> dict[str, bytes]:
        try:
            # a filesystem of its own, since fsspec's cached ones remember listings
            store = fsspec.filesystem(self.scheme, skip_instance_cache=True, **_OPTIONS[self.scheme])
        except ImportError as exc:
            # only s3:// has a library that is not installed with the package; its extra has the scheme's name
            expected = f"the extra {self.scheme}; install it with: pip install 'superpos[{self.scheme}]'"
            raise InvalidAdapter(self.folder, str(exc), expected) from exc
        try:
            return read_files(store, self.folder)
        except _failures(self.scheme) as exc:
            reason = " ".join(str(exc).split())[:300] or type(exc).__name__
            raise InvalidAdapter(self.folder, reason, "a folder that can be read") from exc


def read_files(store: fsspec.AbstractFileSystem, folder: str) -> dict[str, bytes]:
    """Read the files of an adapter from a folder of an fsspec filesystem; others are not read.

    Raises:
        InvalidAdapter: one of them is a link or a device, or exceeds its size limit
        OSError: as the filesystem raises it
    """
    files = {}
    for name, limit in SIZE_LIMITS.items():
        path = f"{folder}/{name}"
        try:
            found = store.info(path)
        except FileNotFoundError:
            continue
        if found["type"] == "directory":
            continue
        if found["type"] != "file" or found.get("islink"):
            raise InvalidAdapter(path, f"a {'link' if found.get('islink') else found['type']}", "a regular file")
        if (size := found.get("size") or 0) > limit:  # before it is read: a store may fetch more than is asked for
            raise InvalidAdapter(f"size of {path}", f"{size} bytes", f"at most {limit} bytes")
        with store.open(path, "rb") as file:
            files[name] = file.read(limit + 1)
    return files


def _failures(scheme: str) -> tuple[type[Exception], ...]:
    if scheme != "s3":
        return _FAILURES
    botocore = importlib.import_module("botocore.exceptions")
    return (*_FAILURES, botocore.BotoCoreError, botocore.ClientError)
