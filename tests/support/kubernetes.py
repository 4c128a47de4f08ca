"""The Helm chart, rendered by Helm's own engine, and the checks of what it makes."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
EXAMPLES = CHART.parent / "kubernetes"
KUBERNETES = "1.34"
"""Version of the schemas."""
TRAINER = "trainer's "
"""Precedes the kinds of the trainer's manifests, as `render` returns them."""
CUSTOM = {"ScaledObject", "ServiceMonitor", "ClusterServingRuntime"}
"""Kinds of other projects, whose schemas are not Kubernetes'."""
Manifest = dict[str, Any]


def values_of(name: str) -> dict[str, Any]:
    """One of the sets of values: `default`, or the name of a file in the chart's `ci` folder."""
    return {} if name == "default" else dict(yaml.safe_load((CHART / f"ci/{name}-values.yaml").read_text("utf-8")))


def render(values: dict[str, Any], *, release: str = "superpos") -> dict[str, Manifest]:
    """The manifests by kind. Raises as Helm does: `HelmValuesError`, `HelmRenderError`."""
    helm = importlib.import_module("helm_python")
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=release, namespace="ml")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    manifests = [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]
    kinds = [f"{TRAINER if is_of_trainer(manifest) else ''}{manifest['kind']}" for manifest in manifests]
    assert len(set(kinds)) == len(kinds), kinds
    return dict(zip(kinds, manifests, strict=True))


def is_of_trainer(manifest: Manifest) -> bool:
    """Whether a manifest is one of the trainer's."""
    return str(manifest["metadata"]["name"]).endswith("-trainer")


def lint(values: dict[str, Any]) -> list[str]:
    """What `helm lint --strict` reports beyond hints."""
    helm = importlib.import_module("helm_python")
    report = helm.lint(CHART, values, strict=True, namespace="ml", kube_version=f"v{KUBERNETES}.0")
    return [str(message) for message in report["messages"] if message["severity"] > 1] + report["errors"]


def check_schema(manifest: Manifest) -> None:
    """Raise for a field that Kubernetes' own schemas do not have, or a value of another type."""
    importlib.import_module("kubernetes_validate").validate(manifest, KUBERNETES, strict=True)


def pod_of(manifest: Manifest) -> Manifest:
    """The pod's specification: a Deployment's, or that which a serving runtime has in its place."""
    spec = manifest["spec"]
    return dict(spec["template"]["spec"] if "template" in spec else spec)


def broken_rules(pod: Manifest) -> Iterator[str]:
    """What a pod lacks of the `restricted` Pod Security Standard, and of what a server needs besides."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod["volumes"]:
        if not volume.keys() & {"secret", "emptyDir", "persistentVolumeClaim"}:
            yield f"volume {volume['name']}"
    for container in pod["containers"]:
        security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        resources = container.get("resources", {})
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        kept = {
            "runs as a user": security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0,
            "read-only root file system": security.get("readOnlyRootFilesystem") is True,
            "no privilege escalation": security.get("allowPrivilegeEscalation") is False,
            "not privileged": not security.get("privileged"),
            "no capabilities": security.get("capabilities") == {"drop": ["ALL"]},
            "seccomp": security.get("seccompProfile") == {"type": "RuntimeDefault"},
            "limits": {"cpu", "memory"} <= resources.get("limits", {}).keys(),
            "requests": {"cpu", "memory"} <= resources.get("requests", {}).keys(),
            "probes": {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(),
            "image of a version": tag not in ("", "latest"),
        }
        yield from (rule for rule, holds in kept.items() if not holds)
