"""Ray Serve in front of PEFT: a multiplexed deployment with dynamic batching.

The task is Ray's multiplexed model id (a header), the replica keeps up to 100 adapters, and a batch's rows are grouped
by task as in the LitServe peer. Ray's own processes (head, raylet, proxy) share the machine, as they would in use.
"""

from pathlib import Path

import ray
from peft_model import Answer, PeftClassifiers, read_options
from ray import serve
from starlette.requests import Request

MAX_BATCH = 32
BATCH_WAIT_S = 0.005
MAX_ADAPTERS = 100


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Classifiers:
    """One replica."""

    def __init__(self, backbone: Path, adapters: Path, threads: int) -> None:
        self._classifiers = PeftClassifiers(backbone, adapters, threads=threads)

    @serve.multiplexed(max_num_models_per_replica=MAX_ADAPTERS)
    async def adapter(self, task: str) -> str:
        """Load an adapter; Ray caches the result and limits the number."""
        self._classifiers.load(task)
        return task

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def classify(self, requests: list[tuple[str, list[str]]]) -> list[list[Answer]]:
        return self._classifiers.classify_groups(requests)

    async def __call__(self, request: Request) -> dict[str, list[Answer]]:
        task = await self.adapter(serve.get_multiplexed_model_id())
        return {"predictions": await self.classify((task, (await request.json())["inputs"]))}


if __name__ == "__main__":
    options = read_options(__doc__)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": options.port})
    serve.run(Classifiers.bind(options.backbone, options.adapters, options.threads), blocking=True)
