"""The sources of settings: keywords, the environment, files of secrets; and their former names."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import RENAMED, Settings


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
