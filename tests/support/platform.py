"""What tests of the whole platform build with, beside the callers of `verification/platform_callers.py`."""

import json
from pathlib import Path

import httpx2
import yaml

from adapters.files import to_files
from backbone import Backbone
from support.adapters import make_adapter

DEPLOY = Path(__file__).parents[2] / "deploy"


def upload(client: httpx2.Client, task: str, backbone: Backbone, *, seed: int) -> httpx2.Response:
    """Publish an adapter."""
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(backbone, seed=seed)).items()]
    return client.post(f"/tasks/{task}/versions", files=parts)


def dashboard_expressions() -> list[str]:
    """What the dashboard asks Prometheus, its variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana/dashboards/superpos.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in asked]


def rule_expressions() -> list[str]:
    """What the rules ask."""
    groups = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]
