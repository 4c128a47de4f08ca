"""Arguments of the application of Ray Serve, and what travels to the nodes. A cluster runs it in `tests/system`."""

from pathlib import Path

import cloudpickle
import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema
from support.kubernetes import EXAMPLES, check_schema

from service.ray import Arguments, Replica, build
from service.settings import Settings


@pytest.mark.parametrize(
    ("wrong", "mention"),
    [
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas is 2, expected at least min_replicas, 3"),
        ({"settings": {"port": 80, "workers": 2}}, "settings has port, workers, which a replica does not read"),
        ({"settings": {"registry": "redis://:secret@redis/0"}}, "settings.registry has a password"),
        ({"settings": {"registry": "redis+sentinel://a/main?sentinel_password=secret"}}, "has a password"),
        ({"replicas": 3}, "replicas"),
        ({"cpus": 0}, "cpus"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], mention: str) -> None:
    with pytest.raises(ValidationError, match=mention):
        Arguments.model_validate(wrong)


def test_a_replica_refuses_a_registry_that_only_its_node_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"registry is '.*sqlite', expected the URL of a Redis"):
        Replica({"registry": str(tmp_path / "registry.sqlite")}, 1)
    with pytest.raises(ValidationError, match="max_batch_tokens"):
        Replica({"registry": "redis://127.0.0.1:1", "max_batch_tokens": "many"}, 1)


def test_a_builder_travels_to_the_nodes_and_no_application() -> None:
    pickled = cloudpickle.dumps(build(Arguments(settings={"registry": "redis://redis/0"})))
    assert b"service.ray" in pickled
    assert b"create_app" not in pickled


def test_serve_holds_no_request_back_that_the_engine_has_room_for() -> None:
    arguments, settings = Arguments(), Settings()
    assert arguments.max_ongoing_requests >= settings.max_queue_rows
    rows_of_a_batch = settings.max_batch_tokens // 32
    assert arguments.target_ongoing_requests == 2 * rows_of_a_batch


def test_the_ray_service_has_the_application_and_valid_pods() -> None:
    manifest = yaml.safe_load((EXAMPLES / "ray-service.yaml").read_text("utf-8"))
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    config = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    (application,) = config.applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    arguments = Arguments.model_validate(application.args)
    cluster = manifest["spec"]["rayClusterConfig"]
    (workers,) = cluster["workerGroupSpecs"]
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0", "no replica runs on the head"
    assert workers["minReplicas"] == arguments.min_replicas
    assert workers["maxReplicas"] == arguments.max_replicas
    for group in (head, workers):
        pod = group["template"]["spec"]
        check_schema({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod})
        (container,) = pod["containers"]
        assert container["image"].endswith(":0.1.0")
        assert container["resources"]["limits"]["memory"]
    assert int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]) == arguments.cpus
