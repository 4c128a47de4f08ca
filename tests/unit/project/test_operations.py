"""docs/operations.md: complete where somebody looks things up."""

import re
from pathlib import Path

import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table_and_nothing_else_is() -> None:
    table = TEXT.split("## Settings")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(Settings.model_fields)


def test_every_alert_is_in_the_incident_table_and_no_other() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    assert alerts == set(re.findall(r"`(Superpos\w+)`", TEXT.split("## Incidents")[1]))


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    assert {"platform", "secrets", "image"} <= named
    assert named <= targets
