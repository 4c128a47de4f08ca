"""Programs out of Debian's packages: fetched without installing, and refusals that say what is missing."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.debian_tools import ToolUnavailable, find


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_programs_run_from_where_they_were_put(caddy: Path, prometheus: Path, promtool: Path) -> None:
    for program, argument in ((caddy, "version"), (prometheus, "--version"), (promtool, "--version")):
        assert subprocess.run([program, argument], capture_output=True, timeout=60, check=True).stdout


def test_a_program_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = executable(tmp_path / "bin" / "caddy", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(own.parent))
    assert find("caddy", cache=tmp_path / "cache") == own
    assert not (tmp_path / "cache").exists()


def test_a_machine_without_apt_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolUnavailable, match="caddy is not on PATH and there is no apt-get to fetch it with"):
        find("caddy", cache=tmp_path / "cache")


def test_lists_that_are_missing_are_fetched_into_the_cache_and_a_refusal_is_apts_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    executable(
        tmp_path / "bin" / "apt-get",
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *update) ;; *) echo "E: none" >&2; exit 100;; esac\n',
    )
    executable(tmp_path / "bin" / "dpkg-deb", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    with pytest.raises(ToolUnavailable, match=r"^caddy cannot be fetched: apt-get: E: none$"):
        find("caddy", cache=tmp_path / "cache")
    asked = log.read_text(encoding="utf-8").splitlines()
    assert [line.split()[-1] for line in asked] == ["caddy", "update", "caddy"]
    assert f"Dir::State::lists={tmp_path / 'cache'}" in asked[1]
    assert not (tmp_path / "cache" / "caddy").exists()
