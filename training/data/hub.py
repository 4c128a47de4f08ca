"""Data sets on the Hugging Face Hub, read from the Hub's Parquet conversion so that no loading script is run."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from training.errors import InvalidData

CONVERTED = "refs/convert/parquet"
"""The branch that the Hub writes `<config>/<split>/0000.parquet` to."""

_COLLECTIONS = {"glue": "nyu-mll/glue", "super_glue": "aps/super_glue"}
"""Data sets whose tasks are customarily written as `glue/sst2`, where the task is the configuration."""
_ID = re.compile(r"([\w.-]+)(?:/([\w.-]+))?(?::([\w.-]+))?", re.ASCII)
_VALIDATION = ("validation", "validation_matched", "valid", "dev", "test")


@dataclass(frozen=True, slots=True)
class HubRows:
    """The local files of a data set."""

    dataset: str
    config: str
    commit: str
    train: tuple[Path, ...]
    validation: tuple[Path, ...]


def parse_hub_id(text: str) -> tuple[str, str | None]:
    """Split an id into data set and configuration: `glue/sst2`, `name`, `owner/name`, `owner/name:config`.

    Raises:
        InvalidData: the id has none of these forms
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise InvalidData(
            f"{text!r} is not the id of a data set on the Hub, expected for example glue/sst2 or owner/name:config"
        )
    owner, name, config = match.groups()
    if owner in _COLLECTIONS and (name is None or config is None):
        return _COLLECTIONS[owner], name or config
    return (owner if name is None else f"{owner}/{name}"), config


def fetch_hub_rows(text: str, *, revision: str | None = None, endpoint: str | None = None) -> HubRows:
    """Download the training and validation rows of a data set into the Hub's cache, unless they are there already.

    Args:
        text: an id as `parse_hub_id` reads it
        revision: a commit of the Parquet conversion; the newest if omitted. A commit in the cache together with a
            configuration needs no connection to the Hub.
        endpoint: the URL of the Hub; `HF_ENDPOINT` if omitted

    Raises:
        InvalidData: the data set is unknown, gated, private or not converted, the configuration or commit is unknown,
            or the Hub cannot be reached
    """
    dataset, config = parse_hub_id(text)
    try:
        try:
            info = HfApi(endpoint=endpoint).dataset_info(dataset, revision=revision or CONVERTED)
        except (httpx2.TransportError, OfflineModeIsEnabled):
            if revision is None or config is None:
                raise
            return _cached(dataset, config, revision)
        names = [sibling.rfilename for sibling in info.siblings or () if sibling.rfilename.endswith(".parquet")]
        config = _config(text, config, {name.split("/")[0] for name in names})
        wanted = [name for split in _splits(text, config, names) for name in split]
        commit = str(info.sha)
        folder = snapshot_download(
            dataset, repo_type="dataset", revision=commit, allow_patterns=wanted, endpoint=endpoint
        )
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx2.TransportError, OSError) as exc:
        raise InvalidData(f"data set {text!r}: {_reason(exc, revision)}") from exc
    return _placed(text, dataset, config, commit, Path(folder))


def _cached(dataset: str, config: str, commit: str) -> HubRows:
    """Return the rows from the cache only; `huggingface_hub` rejects a snapshot that lacks a requested file."""
    for split in _VALIDATION:
        patterns = [f"{config}/{part}{name}/*" for part in ("", "partial-") for name in ("train", split)]
        folder = snapshot_download(
            dataset, repo_type="dataset", revision=commit, allow_patterns=patterns, local_files_only=True
        )
        rows = _placed(f"{dataset}:{config}", dataset, config, commit, Path(folder))
        if rows.validation:
            break
    return rows


def _placed(text: str, dataset: str, config: str, commit: str, folder: Path) -> HubRows:
    names = [path.relative_to(folder).as_posix() for path in folder.glob(f"{config}/*/*.parquet")]
    train, validation = (tuple(folder / name for name in split) for split in _splits(text, config, names))
    return HubRows(dataset, config, commit, train, validation)


def _config(text: str, config: str | None, known: set[str]) -> str:
    if not known:
        raise InvalidData(f"data set {text!r}: the Hub has not converted it to Parquet")
    if config is None and len(known) == 1:
        return next(iter(known))
    if config is None and "default" in known:
        return "default"
    if config not in known:
        missing = "it has several configurations" if config is None else f"unknown configuration {config!r}"
        raise InvalidData(f"data set {text!r}: {missing}, expected one of {', '.join(sorted(known))}")
    return config


def _splits(text: str, config: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the files of the training and the validation rows, or of the test rows if there is no validation split.

    Of a very large data set, the Hub converts only the beginning and calls it `partial-train`.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = name.split("/")
        if parts[0] == config and len(parts) == 3:
            found.setdefault(parts[1].removeprefix("partial-"), []).append(name)
    if "train" not in found:
        raise InvalidData(f"data set {text!r}: no split 'train', only {', '.join(sorted(found))}")
    return found["train"], next((found[split] for split in _VALIDATION if split in found), [])


def _reason(exc: Exception, revision: str | None) -> str:
    match exc:
        case GatedRepoError():
            return "it is gated; request access on the Hub, then set HF_TOKEN or log in"
        case RevisionNotFoundError() if revision is not None:
            return f"the Hub has no Parquet conversion {revision!r}; omit data.revision for the newest"
        case RevisionNotFoundError():
            return "the Hub has not converted it to Parquet"
        case RepositoryNotFoundError():
            return "unknown or private; set HF_TOKEN or log in if it is private"
        case HfHubHTTPError() | HFValidationError():
            return f"the Hub rejected the request: {str(exc).strip().splitlines()[0]}"
        case _:
            return (
                f"the Hub cannot be reached ({(str(exc).strip() or type(exc).__name__).splitlines()[0]}); "
                "to use cached rows, set data.revision and a configuration"
            )
