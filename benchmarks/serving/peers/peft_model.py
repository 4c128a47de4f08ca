"""Model that the peers share: one T5 under PEFT with every adapter folder by name, one task at a time.

A label is scored by its first piece in one decoder step, which is exact where the labels' first pieces differ (they
do in every task here, and it is checked). `generate` would do the same work twice. It runs in the peers' environment,
so it does not import Superpos.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, T5ForConditionalGeneration

Answer = dict[str, str | float]


def read_options(description: str | None) -> argparse.Namespace:
    """Parse the arguments of every peer: `backbone` and `adapters` folders, `port`, `threads`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


class PeftClassifiers:
    """One model with loaded adapters. Not thread-safe: the active adapter is state of the model."""

    def __init__(self, backbone: Path, adapters: Path, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._adapters = adapters
        self._tokenizer = AutoTokenizer.from_pretrained(backbone)
        self._base = T5ForConditionalGeneration.from_pretrained(backbone, dtype=torch.float32).eval()
        self._model: PeftModel | None = None
        self._tasks: dict[str, dict[str, Any]] = {}

    def load_all(self) -> None:
        """Load every adapter folder."""
        for folder in sorted(self._adapters.iterdir()):
            self.load(folder.name)

    def load(self, task: str) -> None:
        """Load one task's folder, unless it is loaded."""
        if task in self._tasks:
            return
        folder = self._adapters / task
        if self._model is None:
            self._model = PeftModel.from_pretrained(self._base, folder, adapter_name=task).eval()
        else:
            self._model.load_adapter(folder, adapter_name=task)
        spec = json.loads((folder / "superpos.json").read_text(encoding="utf-8"))["task"]
        pieces = [self._tokenizer(label["words"], add_special_tokens=False)["input_ids"][0] for label in spec["labels"]]
        assert len(set(pieces)) == len(pieces), f"{task}: labels share a first piece"
        self._tasks[task] = {
            "names": [label["name"] for label in spec["labels"]],
            "pieces": torch.tensor(pieces),
            "max_tokens": spec["max_tokens"],
        }

    def unload(self, task: str) -> None:
        """Unload one task."""
        del self._tasks[task]
        assert self._model is not None
        self._model.delete_adapter(task)

    @torch.inference_mode()
    def classify(self, task: str, texts: list[str]) -> list[Answer]:
        """Return the best label of each text with its probability among the task's labels, in one padded batch."""
        assert self._model is not None
        about = self._tasks[task]
        self._model.set_adapter(task)
        batch = self._tokenizer(
            texts, padding=True, truncation=True, max_length=about["max_tokens"], return_tensors="pt"
        )
        start = torch.zeros(len(texts), 1, dtype=torch.int64)  # T5's decoder starts with the padding token
        logits = self._model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=start
        ).logits  # [B, 1, V]
        scores = torch.softmax(logits[:, 0, about["pieces"]], -1)  # [B, K]
        best = scores.argmax(-1).tolist()
        return [{"label": about["names"][k], "score": float(scores[i, k])} for i, k in enumerate(best)]

    def classify_groups(self, requests: list[tuple[str, list[str]]]) -> list[list[Answer]]:
        """Answer requests of several tasks: those of one task share a padded batch, tasks run one after another."""
        groups: dict[str, list[int]] = {}
        for index, (task, _) in enumerate(requests):
            groups.setdefault(task, []).append(index)
        answers: list[list[Answer]] = [[] for _ in requests]
        for task, indices in groups.items():
            texts = [text for index in indices for text in requests[index][1]]
            row = iter(self.classify(task, texts))
            for index in indices:
                answers[index] = [next(row) for _ in requests[index][1]]
        return answers
