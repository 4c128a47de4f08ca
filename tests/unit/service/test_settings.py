"""The sources of settings: keywords, the environment, files of secrets; and their former names."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import RENAMED, Settings, UnknownVariable, known_variables

FOLDERS = (
    *("adapters", "backbone", "benchmarks", "cli", "deploy", "docs", "examples"),
    *("scripts", "service", "training", "verification"),
)
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".json"}


def test_a_setting_may_be_a_file_of_its_name_which_the_environment_overrules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "superpos_registry").write_text("redis://:secret@redis:6379/0\n", encoding="ascii")
    (tmp_path / "superpos_port").write_text("9000", encoding="ascii")
    monkeypatch.setenv("SUPERPOS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("SUPERPOS_PORT", "9001")
    settings = Settings()
    assert (settings.registry, settings.port) == ("redis://:secret@redis:6379/0", 9001)
    assert Settings(registry="here.sqlite").registry == "here.sqlite"
    (tmp_path / "superpos_workers").write_text("none", encoding="ascii")
    with pytest.raises(ValidationError, match="workers"):
        Settings()


def test_a_renamed_setting_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERPOS_BREAKER_FAILURES", "7")
    assert Settings(breaker_reset_s=5).breaker_failures == 7
    assert Settings(breaker_reset_s=5).breaker_reset_s == 5


@pytest.mark.parametrize(("former", "name"), RENAMED.items())
def test_a_former_name_works_as_variable_keyword_and_file_and_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: str, name: str
) -> None:
    value = 4_000_000
    assert getattr(Settings(), name) != value
    with pytest.warns(FutureWarning, match=f"{former} is deprecated.*{name}"):
        assert getattr(Settings(**{former: value}), name) == value
    monkeypatch.setenv(f"SUPERPOS_{former.upper()}", str(value))
    with pytest.warns(FutureWarning, match=f"{former} is deprecated.*{name}"):
        assert getattr(Settings(), name) == value
    monkeypatch.delenv(f"SUPERPOS_{former.upper()}")
    (tmp_path / f"superpos_{former}").write_text(str(value), encoding="ascii")
    monkeypatch.setenv("SUPERPOS_SECRETS_DIR", str(tmp_path))
    with pytest.warns(FutureWarning, match=f"{former} is deprecated.*{name}"):
        assert getattr(Settings(), name) == value


def test_a_setting_under_both_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERPOS_TRIP_AFTER_FAILURES", "3")
    monkeypatch.setenv("SUPERPOS_BREAKER_FAILURES", "3")
    with pytest.raises(ValidationError, match="breaker_failures and its former name trip_after_failures are both set"):
        Settings()
    with pytest.raises(ValidationError, match="expected breaker_failures alone"):
        Settings(breaker_failures=4)


@pytest.mark.parametrize(
    ("name", "mention"),
    [
        ("SUPERPOS_REQUIRE_KEY", "did you mean SUPERPOS_REQUIRE_KEYS?"),
        ("superpos_max_batch_token", "did you mean SUPERPOS_MAX_BATCH_TOKENS?"),
        ("SUPERPOS_APIKEY", "did you mean SUPERPOS_API_KEY?"),
        ("SUPERPOS_COLOUR", "nothing reads it"),
    ],
)
def test_a_variable_that_nobody_knows_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, mention: str
) -> None:
    monkeypatch.setenv(name, "a secret")
    with pytest.raises(UnknownVariable, match=re.escape(mention)) as refused:
        Settings()
    assert name in str(refused.value)
    assert "a secret" not in str(refused.value)


def test_a_file_of_secrets_or_a_keyword_that_nobody_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match="requires_keys"):
        Settings(requires_keys=True)
    monkeypatch.setenv("SUPERPOS_SECRETS_DIR", str(tmp_path))
    (tmp_path / "grafana_password").touch()
    Settings()
    (tmp_path / "superpos_adminkey").touch()
    with pytest.raises(UnknownVariable, match=r"file superpos_adminkey in .*did you mean SUPERPOS_ADMIN_KEY"):
        Settings()


def test_variables_that_kubernetes_sets_for_a_service_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8080_TCP_ADDR", "GATEWAY_SERVICE_PORT", "GATEWAY_PORT"):
        monkeypatch.setenv(f"SUPERPOS_{name}", "tcp://10.0.0.1:8080")
    Settings()


def test_every_variable_that_the_project_reads_is_known() -> None:
    root = Path(__file__).parents[3]
    files = [path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in SUFFIXES]
    files += [*root.glob("*.y*ml"), *root.glob("Dockerfile*"), root / "Makefile", root / ".ci/run"]
    named = {name for path in files for name in re.findall(r"\bSUPERPOS_[A-Z0-9_]*[A-Z0-9]\b", path.read_text("utf-8"))}
    assert len(named) > 30
    assert named - known_variables() == {"SUPERPOS_RATES"}  # a constant of training/paper
