"""The files of a deployment: checked by the programs that read them, and against what they name."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.platform import DEPLOY

from deploy.debian_tools import ToolUnavailable, find, library_path
from deploy.secret_files import ADMIN_KEY, GRAFANA_PASSWORD, NAMES, REDIS_AUTH, REGISTRY, make_secrets
from service.tenancy.api_keys import ApiKey


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_accepts_its_configuration_and_the_rules(promtool: Path) -> None:
    assert "rules found" in run(promtool, "check", "config", DEPLOY / "prometheus/prometheus.yml")


def test_caddy_accepts_the_gateways_configuration_as_formatted(caddy: Path, tmp_path: Path) -> None:
    file = DEPLOY / "Caddyfile"
    assert "Valid configuration" in run(caddy, "validate", "--config", file, "--adapter", "caddyfile")
    assert run(caddy, "fmt", file) == file.read_text(encoding="utf-8")


def test_the_panels_of_the_dashboard_are_told_apart_and_do_not_overlap() -> None:
    panels = json.loads((DEPLOY / "grafana/dashboards/superpos.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & cells, panel["title"]
        cells |= own


def test_secrets_are_made_once_agree_and_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert make_secrets(folder) == list(NAMES)
    texts = {name: (folder / name).read_text(encoding="ascii") for name in NAMES}
    password = texts[REDIS_AUTH].split()[1]
    assert texts[REGISTRY].strip() == f"redis://:{password}@redis:6379/0"
    assert ApiKey.given(texts[ADMIN_KEY].strip()).id.startswith("admin")
    assert len(texts[GRAFANA_PASSWORD]) > 20
    assert folder.stat().st_mode & 0o077 == 0
    (folder / REGISTRY).unlink()
    folder.chmod(0o755)  # as an older version, or a checkout, left it
    assert make_secrets(folder, redis="elsewhere:1") == [REGISTRY]
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / REGISTRY).read_text(encoding="ascii").strip() == f"redis://:{password}@elsewhere:1/0"
    assert all((folder / name).read_text(encoding="ascii") == texts[name] for name in NAMES if name != REGISTRY)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_programs_run_from_where_they_were_put(
    caddy: Path, prometheus: Path, promtool: Path, tls_redis: Path
) -> None:
    for program in (caddy, prometheus, promtool, tls_redis):
        command = [program, "version" if program == caddy else "--version"]
        environment = {**os.environ, **library_path(program)}
        assert subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment).stdout


def test_a_program_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = executable(tmp_path / "bin" / "caddy", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(own.parent))
    assert find("caddy", cache=tmp_path / "cache") == own
    assert not (tmp_path / "cache").exists()


def test_a_machine_without_apt_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolUnavailable, match="caddy is not on PATH, and apt-get, which could fetch it, is missing"):
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
