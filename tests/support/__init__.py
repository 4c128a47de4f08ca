"""What tests build with: tiny real T5s made on the spot, adapters for them, and a server's client."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import torch
import uvicorn
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from adapters import BackboneRef, Manifest, PromptAdapter, Provenance, Registry, TaskSpec
from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
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
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
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
    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        if gated:  # as in Google's v1.1 checkpoints: a head of its own, the embedding tables one
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
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


@dataclasses.dataclass
class RunningServer:
    """A real server on a real port, in a thread of this process."""

    url: str
    client: httpx2.Client
    settings: Settings
    app: object
    server: uvicorn.Server

    @property
    def registry(self) -> Registry:
        """Its registry, opened a second time: what another process would do."""
        return open_registry(self.settings.registry)

    def upload(self, task: str, adapter: PromptAdapter, **form: str) -> dict[str, object]:
        """Publish an adapter over HTTP."""
        parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
        response = self.client.post(f"/tasks/{task}/versions", files=parts, data=form)
        assert response.is_success, response.text
        return response.json()

    def classify(self, ref: str, inputs: object, **body: object) -> httpx2.Response:
        """Ask for predictions."""
        return self.client.post(f"/classify/{ref}", json={"inputs": inputs, **body})


def sample(server: RunningServer, name: str) -> float:
    """One sample of /metrics."""
    lines = server.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).rpartition(" ")[2])


def eventually(condition: Callable[[], bool], *, within_s: float = 20) -> None:
    """Wait for something that another thread or process is about to do."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
