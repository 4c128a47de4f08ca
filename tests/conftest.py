"""What tests share: tiny real T5s made on the spot, the embedded backbone, adapters for them, and real servers."""

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import numpy as np
import platformdirs
import pytest
import torch
import uvicorn
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from adapters import BackboneRef, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.files import to_files
from backbone import Backbone, load
from service.app import create_app
from service.settings import Settings

SENTIMENT = TaskSpec(
    template="sentence: {sentence}", labels={"negative": "negative", "positive": "positive"}, max_tokens=64
)
TOPIC = TaskSpec(
    template="text: {text}",
    labels={"world": "world news", "sports": "sports", "business": "business", "science": "world science"},
    max_tokens=64,
)
PAIR = TaskSpec(
    template="premise: {premise} hypothesis: {hypothesis}", labels={"yes": "yes", "no": "no"}, max_tokens=64
)

_CORPUS = [
    "sentence: a gripping film that is positive and never negative",
    "text: the world of sports and business and science news",
    "premise: it rains hypothesis: it is wet yes or no",
    "question: which city is the capital of France ?",
    "flat and overlong , the quick brown fox jumps over the lazy dog 0123456789",
]


def make_tokenizer(folder: Path) -> int:
    """Train a small sentencepiece-like tokenizer into a folder; its vocabulary's size comes back."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return tokenizer.get_vocab_size()


def make_t5(folder: Path, *, gated: bool, width: int = 32, seed: int = 0, **changes: object) -> Path:
    """A tiny T5 in `transformers`' format: v1.1 (gated, untied head) or v1.0 (relu, tied head)."""
    vocab_size = make_tokenizer(folder)
    torch.manual_seed(seed)
    config = T5Config(
        **{
            "vocab_size": vocab_size + 5,
            "d_model": width,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 3,
            "feed_forward_proj": "gated-gelu" if gated else "relu",
            "decoder_start_token_id": 0,
            "eos_token_id": 1,
            **changes,
        },
        **({"tie_word_embeddings": False} if gated else {}),
    )
    config.tie_word_embeddings = not gated
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():  # the head's own start is so flat that every label would score alike
        model.lm_head.weight.mul_(4.0)
    model.save_pretrained(folder)
    return folder


def make_adapter(
    backbone: Backbone, spec: TaskSpec = SENTIMENT, *, seed: int = 0, num_virtual_tokens: int = 10
) -> PromptAdapter:
    """An adapter with a random prompt in the backbone's scale."""
    scale = float(backbone.weights.embedding.std())
    prompt = np.random.default_rng(seed).normal(0, scale, (num_virtual_tokens, backbone.width)).astype(np.float32)
    manifest = Manifest(
        task=spec,
        backbone=BackboneRef(**dataclasses.asdict(backbone.identity)),
        provenance=Provenance(method="random", seed=seed),
    )
    return PromptAdapter(prompt, manifest)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where the embedded backbone's weights are kept between test runs."""
    return Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real rows; a test that asks for them is marked `data` and skips loudly without them."""
    if not os.environ.get("SUPERPOS_DATA"):
        pytest.skip("SUPERPOS_DATA is not set: this test needs real rows")
    return Path(os.environ["SUPERPOS_DATA"])


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny T5 v1.1."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v11"), gated=True)


@pytest.fixture(scope="session")
def tiny_t5_v10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny T5 v1.0."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v10"), gated=False)


@pytest.fixture(scope="session")
def tiny(tiny_t5: Path, cache_dir: Path) -> Backbone:
    """The tiny T5 v1.1, loaded."""
    return load(str(tiny_t5), cache_dir=cache_dir)


@pytest.fixture(scope="session")
def embedded(cache_dir: Path) -> Backbone:
    """The embedded backbone, loaded."""
    return load("embedded", cache_dir=cache_dir)


@dataclasses.dataclass
class RunningServer:
    """A real server on a real port, in a thread of this process."""

    url: str
    client: httpx2.Client
    settings: Settings
    app: object

    def upload(self, task: str, adapter: PromptAdapter, **form: str) -> dict[str, object]:
        """Publish an adapter over HTTP."""
        parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
        response = self.client.post(f"/tasks/{task}/versions", files=parts, data=form)
        assert response.is_success, response.text
        return response.json()

    def classify(self, ref: str, inputs: object, **body: object) -> httpx2.Response:
        """Ask for predictions."""
        return self.client.post(f"/classify/{ref}", json={"inputs": inputs, **body})


@pytest.fixture
def serve(tiny_t5: Path, tmp_path: Path, cache_dir: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers; they stop, everything accepted answered, when the test ends."""
    started: list[tuple[uvicorn.Server, threading.Thread, httpx2.Client]] = []

    def start(**changes: object) -> RunningServer:
        values = {
            "backbone": str(tiny_t5),
            "cache_dir": cache_dir,
            "registry": tmp_path / "registry.sqlite",
            "port": 0,
            "poll_interval_s": 0.02,
            **changes,
        }
        settings = Settings(**values)
        app = create_app(settings)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        client = httpx2.Client(base_url=url, timeout=60)
        started.append((server, thread, client))
        return RunningServer(url, client, settings, app)

    yield start
    for server, thread, client in started:
        client.close()
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not stop"
