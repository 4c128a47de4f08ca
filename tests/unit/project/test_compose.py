"""docker-compose.yml: valid, hardened, and in agreement with the files, settings and secrets that it names."""

import importlib
import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from deploy.secret_files import NAMES
from service.settings import Settings

ROOT = Path(__file__).parents[3]
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")


def filled(name: str) -> str:
    """A compose file with its variables at their defaults."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(filled("docker-compose.yml")))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return dict(compose["services"])


@pytest.fixture
def compose_spec() -> ModuleType:
    try:
        return importlib.import_module("compose_spec")
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("the package compose-spec is not installed")


def environment(service: dict[str, Any]) -> set[str]:
    return set(service.get("environment", {}))


@pytest.mark.parametrize("name", FILES)
def test_a_file_follows_the_compose_specification(compose_spec: ModuleType, name: str) -> None:
    read = compose_spec.PyOptions(apply_merge=True)
    read.from_yaml(filled(name)).validate()
    with pytest.raises(ValueError, match="imagine"):
        read.from_yaml(filled(name).replace("image:", "imagine:")).validate()


def test_every_service_is_hardened_limited_pinned_and_watched(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        if "build" in service:
            assert f"AS {service['build']['target']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8"), name
        else:
            assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+[\w.-]*", service["image"]), name
            assert "healthcheck" in service, name
    assert [name for name, service in services.items() if "cap_add" in service] == ["gateway"]


def test_only_the_gateway_is_reached_from_elsewhere(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert compose["networks"]["inside"]["internal"] is True
    published = {name: ports for name, service in services.items() for ports in [service.get("ports", [])] if ports}
    assert set(published) == {"gateway", "prometheus", "grafana"}
    for name in ("prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in published[name])
    for name in ("redis", "server-1", "server-2"):
        assert services[name]["networks"] == ["inside"]


def test_every_file_that_is_mounted_exists_and_every_volume_is_declared(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                continue
            source = volume.split(":")[0]
            if source.startswith("./deploy"):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), volume
            elif not source.startswith("./"):
                assert source in compose["volumes"], source


def test_the_secrets_are_those_that_make_secrets_makes(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert set(compose["secrets"]) == set(NAMES)
    assert {secret["file"] for secret in compose["secrets"].values()} == {f"./deploy/secrets/{name}" for name in NAMES}
    used = [secret for service in services.values() for secret in service.get("secrets", [])]
    assert set(used) == set(NAMES)
    told = json.dumps(services)
    for path in set(re.findall(r"/run/secrets/(\w+)", told)):
        assert path in NAMES


@pytest.mark.parametrize("name", [*FILES, "Dockerfile"])
def test_every_setting_that_is_named_is_one(name: str) -> None:
    known = {f"SUPERPOS_{field.upper()}" for field in Settings.model_fields} | {"SUPERPOS_SECRETS_DIR"}
    named = set(re.findall(r"\bSUPERPOS_[A-Z_]+\b", filled(name)))
    assert named
    assert named <= known


def test_the_servers_settings_are_accepted(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in services["server-1"]["environment"].items():
        if variable != "SUPERPOS_SECRETS_DIR":
            monkeypatch.setenv(variable, str(value))
    settings = Settings()
    assert settings.require_keys is True
    assert settings.host == "0.0.0.0"


def test_gateway_and_prometheus_name_the_servers_that_there_are(services: dict[str, Any]) -> None:
    servers = sorted(name for name in services if name.startswith("server-"))
    assert services["server-1"] == services["server-2"]
    addresses = [f"{name}:{services[name]['environment']['SUPERPOS_PORT']}" for name in servers]
    assert services["gateway"]["environment"]["GATEWAY_REPLICAS"].split() == addresses
    targets = json.loads((ROOT / "deploy/prometheus/targets/servers.json").read_text(encoding="utf-8"))
    assert targets == [{"targets": addresses}]
    caddyfile = (ROOT / "deploy/Caddyfile").read_text(encoding="utf-8")
    assert environment(services["gateway"]) <= set(re.findall(r"\{\$(\w+)", caddyfile))
    assert set(services["gateway"]["depends_on"]) == set(servers)


def test_the_gpu_file_changes_the_servers_and_nothing_else(services: dict[str, Any]) -> None:
    changed = yaml.safe_load(filled("docker-compose.gpu.yml"))["services"]
    assert set(changed) == {name for name in services if name.startswith("server-")}
