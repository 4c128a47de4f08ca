"""The settings' sources: what is given, the environment, files of secrets."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


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
