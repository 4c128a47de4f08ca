"""LitServe in front of PEFT: its batching worker, which groups a batch by task.

LitServe parses in one process and runs the model in another. A batch holds all requests within the timeout; rows of one
task share a padded forward, and the tasks of a batch run one after another.
"""

from pathlib import Path
from typing import Any

import litserve
from peft_model import Answer, PeftClassifiers, read_options

MAX_BATCH = 32
BATCH_TIMEOUT_S = 0.005


class Classifiers(litserve.LitAPI):
    """The worker."""

    def __init__(self, backbone: Path, adapters: Path, threads: int) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
        self._arguments = (backbone, adapters, threads)

    def setup(self, device: str) -> None:  # noqa: ARG002
        backbone, adapters, threads = self._arguments
        self._classifiers = PeftClassifiers(backbone, adapters, threads=threads)
        self._classifiers.load_all()

    def decode_request(self, request: dict[str, Any], **_: object) -> tuple[str, list[str]]:
        return request["task"], request["inputs"]

    def batch(self, inputs: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
        return inputs

    def predict(self, inputs: list[tuple[str, list[str]]], **_: object) -> list[list[Answer]]:
        return self._classifiers.classify_groups(inputs)

    def unbatch(self, output: list[list[Answer]]) -> list[list[Answer]]:
        return output

    def encode_response(self, output: list[Answer], **_: object) -> dict[str, list[Answer]]:
        return {"predictions": output}


if __name__ == "__main__":
    options = read_options(__doc__)
    worker = Classifiers(options.backbone, options.adapters, options.threads)
    server = litserve.LitServer(worker, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")
