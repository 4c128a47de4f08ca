"""The Helm chart: valid, hardened, and in agreement with the server's settings, routes and metrics."""

import copy
import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kubernetes import (
    CHART,
    CUSTOM,
    EXAMPLES,
    TRAINER,
    Manifest,
    broken_rules,
    check_schema,
    lint,
    pod_of,
    render,
    values_of,
)
from support.server import RunningServer
from support.sizing import coefficients

from adapters.storage.sentinel import SentinelUrl
from deploy.secret_files import ADMIN_KEY, REGISTRY
from service.errors import ADMISSION_REASONS
from service.settings import Settings
from sizing.plan import Target, Workload, chart_values, plan

if importlib.util.find_spec("helm_python") is None and not os.environ.get("CI"):
    pytest.skip("the package helm-python-sdk is not installed", allow_module_level=True)
helm = importlib.import_module("helm_python")
SETS = ("default", "minimal", "production", "kserve")
SERVERS = SETS[:3]
POLICIES = {"PodDisruptionBudget", "NetworkPolicy"}


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, Manifest]]:
    return {name: render(values_of(name)) for name in SETS}


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., RunningServer]) -> RunningServer:
    return serve_module(bundled=False)


def pod_in(manifests: dict[str, Manifest]) -> Manifest:
    return pod_of(manifests.get("Deployment") or manifests["ClusterServingRuntime"])


def container_of(manifests: dict[str, Manifest]) -> Manifest:
    (container,) = pod_in(manifests)["containers"]
    return dict(container)


def environment_of(manifests: dict[str, Manifest]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(manifests)["env"] if "value" in each}


@pytest.mark.parametrize("name", SETS)
def test_helm_finds_nothing_to_say(name: str) -> None:
    assert lint(values_of(name)) == []


@pytest.mark.parametrize("name", SETS)
def test_what_is_rendered_follows_the_schemas_of_kubernetes(
    rendered: dict[str, dict[str, Manifest]], name: str
) -> None:
    for kind, manifest in rendered[name].items():
        if kind not in CUSTOM:
            check_schema(manifest)
    pod = pod_in(rendered[name])
    check_schema({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": _only_of_a_pod(pod)})


def _only_of_a_pod(spec: Manifest) -> Manifest:
    return {key: value for key, value in spec.items() if key in ("containers", "volumes", "securityContext")}


def test_a_field_that_kubernetes_does_not_have_is_found(rendered: dict[str, dict[str, Manifest]]) -> None:
    wrong = copy.deepcopy(rendered["default"]["Deployment"])
    pod_of(wrong)["containers"][0]["readinesProbe"] = {}
    with pytest.raises(Exception, match="readinesProbe"):
        check_schema(wrong)


def test_each_set_of_values_makes_its_kinds(rendered: dict[str, dict[str, Manifest]]) -> None:
    servers = {"Deployment", "Service"}
    assert rendered["default"].keys() == servers | POLICIES
    assert rendered["minimal"].keys() == servers | {"PodDisruptionBudget"}
    assert rendered["production"].keys() == servers | POLICIES | {"ServiceMonitor", "ScaledObject"}
    assert rendered["kserve"].keys() == {"ClusterServingRuntime"}


@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_hardened_limited_probed_and_of_a_version(
    rendered: dict[str, dict[str, Manifest]], name: str
) -> None:
    pod = pod_in(rendered[name])
    assert list(broken_rules(pod)) == []
    if name != "kserve":
        assert pod["automountServiceAccountToken"] is False
    for path in ("image", "securityContext", "resources", "livenessProbe"):
        wrong = copy.deepcopy(pod)
        wrong["containers"][0][path] = "superpos:latest" if path == "image" else {}
        if path == "livenessProbe":
            del wrong["containers"][0][path]
        assert list(broken_rules(wrong)), path


@pytest.mark.parametrize("name", SETS)
def test_the_server_accepts_its_settings(
    rendered: dict[str, dict[str, Manifest]], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    container, pod = container_of(rendered[name]), pod_in(rendered[name])
    given = environment_of(rendered[name])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert given["SUPERPOS_SECRETS_DIR"] == mounts["secrets"]
    secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets")
    # as the kubelet lays a Secret out: each file is a link into a folder that is replaced as a whole
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    texts = {ADMIN_KEY: "sp_admin_" + "x" * 32, REGISTRY: "rediss://superpos:secret@redis:6380/0"}
    for item in secret["items"]:
        (tmp_path / "..2026" / item["path"]).write_text(texts[item["key"]], encoding="ascii")
        (tmp_path / item["path"]).symlink_to(f"..data/{item['path']}")
    for variable, value in {**given, "SUPERPOS_SECRETS_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert (settings.require_keys, settings.port) == (True, container["ports"][0]["containerPort"])
    assert settings.admin_key is not None
    if name != "minimal":
        assert settings.registry == texts[REGISTRY]
    for setting, value in values_of(name).get("settings", {}).items():
        read = getattr(settings, setting)
        assert (read == (value,)) if isinstance(read, tuple) else (read == value), setting


def test_trainers_run_if_they_are_asked_for_and_reach_redis_alone(
    rendered: dict[str, dict[str, Manifest]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not any(kind.startswith(TRAINER) for name in SETS for kind in rendered[name])
    values = {**values_of("production"), "trainer": {"replicas": 2}}
    assert lint(values) == []
    made = render(values)
    added = made.keys() - rendered["production"].keys()
    assert added == {f"{TRAINER}{kind}" for kind in ("Deployment", "NetworkPolicy")}
    assert {kind: made[kind] for kind in rendered["production"]} == rendered["production"]
    deployment, policy = (made[f"{TRAINER}{kind}"] for kind in ("Deployment", "NetworkPolicy"))
    monitor = yaml.safe_load((EXAMPLES / "trainer-monitor.yaml").read_text("utf-8"))
    check_schema(deployment)
    check_schema(policy)
    pod = pod_of(deployment)
    assert set(broken_rules(pod)) == {"probes"}, "a trainer answers no requests"
    (container,) = pod["containers"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    assert container["image"] == f"superpos-trainer:{version}"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert not made["Service"]["spec"]["selector"].items() <= labels.items(), "no requests reach it"
    for selector in (deployment["spec"]["selector"], policy["spec"]["podSelector"], monitor["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["egress"]] == [53, 6380]
    secret = next(volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets")
    assert [item["key"] for item in secret["items"]] == [REGISTRY], "not the operator's key"
    (port,) = container["ports"]
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == port["name"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    (tmp_path / REGISTRY).write_text("rediss://superpos:secret@redis:6380/0", encoding="ascii")
    for variable, value in {**given, "SUPERPOS_SECRETS_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert (settings.trainer_metrics_host, settings.trainer_metrics_port) == ("0.0.0.0", port["containerPort"])
    assert settings.registry.startswith("rediss:")
    for values in ({"mode": "kserve"}, {"redis": {"enabled": False}, "replicas": 1}):
        with pytest.raises(helm.HelmError, match="trainers share the jobs of a Redis"):
            render({**values, "trainer": {"replicas": 1}})


@pytest.mark.parametrize("name", SETS)
def test_threads_follow_the_limit_of_cpus_and_the_grace_period_the_drain(
    rendered: dict[str, dict[str, Manifest]], name: str
) -> None:
    container = container_of(rendered[name])
    (threads,) = [each for each in container["env"] if each["name"] == "SUPERPOS_THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}
    given = environment_of(rendered[name])
    drain = [float(given[f"SUPERPOS_DRAIN_{part}_S"]) for part in ("DELAY", "TIMEOUT")]
    stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if name == "kserve":
        service = yaml.safe_load((EXAMPLES / "inference-service.yaml").read_text("utf-8"))
        grace = service["spec"]["predictor"]["terminationGracePeriodSeconds"]
    else:
        grace = pod_of(rendered[name]["Deployment"])["terminationGracePeriodSeconds"]
    assert grace == stop + sum(drain) + 10
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= stop + drain[0]


def test_threads_that_a_setting_names_are_used_and_workers_need_it() -> None:
    given = environment_of(render({"settings": {"workers": 2, "threads": 1}}))
    assert (given["SUPERPOS_WORKERS"], given["SUPERPOS_THREADS"]) == ("2", "1")
    with pytest.raises(helm.HelmError, match="threads"):
        render({"settings": {"workers": 2}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 3}, "replica"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"image": {"digest": "abc"}}, "digest"),
        ({"settings": {"registry": "redis://:secret@redis"}}, "registry"),
        ({"settings": {"drain_delay_s": 1}}, "drain_delay_s"),
        ({"resources": {"limits": {"cpu": None}}}, "cpu"),
        ({"podSpec": {"securityContext": {}}}, "securityContext"),
        ({"redis": {"enabled": False}}, "a registry of its own"),
        ({"redis": {"enabled": False}, "replicas": 1, "autoscaling": {"enabled": True}}, "a registry of its own"),
    ],
)
def test_values_that_cannot_work_are_refused_with_their_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm.HelmError, match=message):
        render(values)


def test_the_image_is_named_by_tag_or_digest() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    assert container_of(render({}))["image"] == f"superpos:{version}"
    assert container_of(render({"image": {"repository": "r.example/s", "tag": "1.2"}}))["image"] == "r.example/s:1.2"
    digest = "sha256:" + "0" * 64
    assert container_of(render({"image": {"tag": "1.2", "digest": digest}}))["image"] == f"superpos@{digest}"


def test_requests_reach_the_pods_and_nothing_else_does(rendered: dict[str, dict[str, Manifest]]) -> None:
    for name in SERVERS:
        made = rendered[name]
        labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
        (port,) = made["Service"]["spec"]["ports"]
        assert port["targetPort"] in [each["name"] for each in container_of(made)["ports"]]
        for selector in (
            made["Service"]["spec"]["selector"],
            made["Deployment"]["spec"]["selector"]["matchLabels"],
            made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ):
            assert selector.items() <= labels.items()
    policy = rendered["production"]["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, 6380, 4318]
    _, to_redis = rendered["default"]["NetworkPolicy"]["spec"]["egress"]
    (_, sentinels_port), *_ = SentinelUrl.parse("redis+sentinel://sentinel/superpos").sentinels
    assert [each["port"] for each in to_redis["ports"]] == [6379, sentinels_port]
    assert all(rule["from"] for rule in policy["ingress"])
    monitor = rendered["production"]["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= rendered["production"]["Service"]["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == port["name"]


def test_certificates_for_redis_are_where_the_documented_url_names_them(
    rendered: dict[str, dict[str, Manifest]],
) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(rendered["production"])["volumeMounts"]}
    documented = (CHART.parents[1] / "docs/operations.md").read_text("utf-8")
    for file in ("ssl_ca_certs=%s/ca.crt", "ssl_certfile=%s/tls.crt", "ssl_keyfile=%s/tls.key"):
        assert file % mounts["redis-tls"] in documented
    assert "redis-tls" not in {mount["name"] for mount in container_of(rendered["default"])["volumeMounts"]}


def test_one_server_without_redis_is_replaced_rather_than_doubled(rendered: dict[str, dict[str, Manifest]]) -> None:
    spec = rendered["minimal"]["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    data = next(volume for volume in pod_of(rendered["minimal"]["Deployment"])["volumes"] if volume["name"] == "data")
    assert data["persistentVolumeClaim"] == {"claimName": "superpos-registry"}
    assert "replicas" not in rendered["production"]["Deployment"]["spec"]


def test_replicas_are_added_by_series_that_the_server_has(
    rendered: dict[str, dict[str, Manifest]], served: RunningServer
) -> None:
    text = served.client.get("/metrics").text
    scaled = rendered["production"]["ScaledObject"]["spec"]
    queue, refusals = (trigger["metadata"] for trigger in scaled["triggers"])
    assert queue["query"] == 'sum(superpos_queue_tokens{namespace="ml",service="superpos"})'
    assert "\nsuperpos_queue_tokens " in text
    assert (queue["threshold"], refusals["threshold"]) == ("16384", "0.1")
    assert scaled["scaleTargetRef"]["name"] == rendered["production"]["Deployment"]["metadata"]["name"]
    reasons = ("rows", "tokens", "body_bytes")
    assert set(reasons) <= set(ADMISSION_REASONS)
    assert f'reason=~"{"|".join(reasons)}"' in refusals["query"]
    for reason in reasons:
        assert f'superpos_admission_refusals_total{{reason="{reason}"}} ' in text
    default = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["autoscaling"]["queueTokens"]
    assert default == Settings().max_queue_tokens / 4
    rules = yaml.safe_load((EXAMPLES / "prometheus-adapter.yaml").read_text("utf-8"))["rules"]["custom"]
    assert [rule["seriesQuery"].partition("{")[0] for rule in rules] == [
        "superpos_queue_tokens", "superpos_admission_refusals_total",
    ]  # fmt: skip
    autoscaler = yaml.safe_load((EXAMPLES / "hpa.yaml").read_text("utf-8"))
    check_schema(autoscaler)
    named = {metric["pods"]["metric"]["name"] for metric in autoscaler["spec"]["metrics"]}
    assert named == {rules[0]["seriesQuery"].partition("{")[0], rules[1]["name"]["as"]}
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert autoscaler["spec"]["behavior"] == behavior
    check_schema({**autoscaler, "spec": {**autoscaler["spec"], "behavior": behavior}})


def test_the_values_of_a_plan_are_ones_that_the_chart_and_the_server_take(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = Workload(tasks=50_000, requests_per_s=500, text_tokens=60)
    planned = plan(workload, Target(cores=2, resident=30_000), coefficients())
    values = chart_values(planned)
    made = render({**values, "autoscaling": {**values["autoscaling"], "enabled": True}})
    triggers = made["ScaledObject"]["spec"]["triggers"]
    assert triggers[0]["metadata"]["threshold"] == str(planned.autoscaling.queue_tokens)
    assert made["ScaledObject"]["spec"]["maxReplicaCount"] == planned.autoscaling.max_replicas
    limits = container_of(made)["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": f"{planned.memory.limit_bytes >> 20}Mi"}
    check_schema(made["Deployment"])
    given = environment_of(made)
    for name in ("max_loaded_adapters", "prompt_table_bytes"):
        monkeypatch.setenv(f"SUPERPOS_{name.upper()}", given[f"SUPERPOS_{name.upper()}"])
        assert getattr(Settings(), name) == planned.settings[name]


def test_the_probes_ask_routes_that_the_server_has(
    rendered: dict[str, dict[str, Manifest]], served: RunningServer
) -> None:
    container = container_of(rendered["default"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == container["ports"][0]["name"]
        assert served.client.get(asked["path"]).status_code == 200


def test_the_inference_service_fits_the_runtime(
    rendered: dict[str, dict[str, Manifest]], served: RunningServer
) -> None:
    runtime = rendered["kserve"]["ClusterServingRuntime"]
    model = yaml.safe_load((EXAMPLES / "inference-service.yaml").read_text("utf-8"))["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert runtime["spec"]["containers"][0]["name"] == "kserve-container"
    assert served.client.get("/v2/health/ready").status_code == 200
    default = container_of(rendered["default"])
    assert {**container_of(rendered["kserve"]), "image": "", "name": ""} == {**default, "image": "", "name": ""}
