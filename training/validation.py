"""What an adapter answered on held-out rows, written into it: what live answers are compared with later."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from adapters import PromptAdapter
from adapters.calibration import calibrated
from adapters.profile import profile_of
from backbone import Backbone
from training.evaluation import TokenizedRows, predict


def answers(backbone: Backbone, adapter: PromptAdapter, rows: TokenizedRows) -> NDArray[np.float32]:
    """Label log-probabilities [n, K] of rows by the serving scorer."""
    prompt = torch.from_numpy(adapter.prompt.copy()).to(backbone.device)
    return predict(backbone, prompt, backbone.label_trie(adapter.spec.label_words), rows.token_ids)


def with_profile(adapter: PromptAdapter, log_probs: NDArray[np.float32]) -> PromptAdapter:
    """The adapter with the profile of its answers [n, K], calibrated as they are served; it has a digest of its own."""
    profile = profile_of(calibrated(log_probs, adapter.manifest.calibration.temperature))
    return replace(adapter, manifest=adapter.manifest.model_copy(update={"validation": profile}))
