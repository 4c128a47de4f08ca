"""What an adapter answered on held-out rows, written into it: what live answers are compared with later."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.calibration import calibrated
from adapters.profile import profile_of
from backbone import Backbone
from training.data import read_shards
from training.evaluation import TokenizedRows, predict, tokenize_examples
from training.task_file import TaskFile


def answers(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.float32]:
    """Label log-probabilities [n, K] of rows by the serving scorer."""
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return predict(backbone, prompt, backbone.label_trie(adapter.spec.label_words), rows.token_ids)


def adapter_rows(backbone: Backbone, adapter: PromptAdapter, task: TaskFile, *paths: Path) -> TokenizedRows:
    """The rows of a file, or of the files that are its parts, under the adapter's own template, labels and token limit.

    Raises:
        InvalidAdapter: it was trained for another backbone
        InvalidData: the file is bad, or its labels are not the adapter's
    """
    adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
    rows = read_shards(paths, task.model_copy(update={"spec": adapter.spec}))
    return tokenize_examples(backbone, adapter.spec, rows.examples)


def with_profile(adapter: PromptAdapter, log_probs: NDArray[np.float32]) -> PromptAdapter:
    """The adapter with the profile of its answers [n, K], calibrated as they are served; it has a digest of its own."""
    profile = profile_of(calibrated(log_probs, adapter.manifest.calibration.temperature))
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"validation": profile}))
