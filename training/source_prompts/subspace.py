"""Multi-task subspace finding of IPT (Qin et al. 2021, §3): an autoencoder over a library's prompts.

The loss is that of each task's rows behind the reconstructed prompt, plus α times the reconstruction error. α is 200 in
the authors' code; here it applies to prompts of unit variance.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from backbone import Backbone, Precision
from training.errors import InvalidArguments
from training.methods.intrinsic import Autoencoder
from training.methods.prior import Prior
from training.source_prompts.collection import SourcePrompt
from training.source_prompts.joint import JointArguments, JointSource, JointStep, train_prior

FEWEST_PROMPTS = 2
MAX_DIMENSIONS = 4_096


def train_subspace(
    backbone: Backbone,
    library: Sequence[SourcePrompt],
    arguments: JointArguments,
    *,
    dimensions: int,
    hidden: int,
    reconstruction: float,
    weight_decay: float,
    folder: Path,
    precision: Precision = "fp32",
    on_step: Callable[[JointStep], None] = lambda step: None,
) -> Prior:
    """Train an autoencoder over the prompts of a library, and write its decoder into a folder.

    Args:
        dimensions: d
        hidden: m, the width of the decoder's inner layer
        reconstruction: α
        precision: of the frozen network during training
        folder: holds the checkpoint until the end, from which the training resumes, and then the prior

    Raises:
        InvalidArguments: the library has fewer than two prompts, or a size is outside its bounds
        InvalidCheckpoint: the folder's checkpoint is damaged or of other settings
        TrainingError: the loss is not finite
    """
    if len(library) < FEWEST_PROMPTS:
        raise InvalidArguments(f"the library has {len(library)} prompt, expected at least {FEWEST_PROMPTS}")
    for name, size in (("dimensions", dimensions), ("hidden", hidden)):
        if not 1 <= size <= MAX_DIMENSIONS:
            raise InvalidArguments(f"{name} is {size}, expected 1 to {MAX_DIMENSIONS}")
    generator = torch.Generator().manual_seed(arguments.seed)
    model = Autoencoder(
        [source.prompt(backbone.device) for source in library],
        dimensions=dimensions,
        hidden=hidden,
        weight_decay=weight_decay,
        generator=generator,
    )
    joint = [JointSource(str(source.folder), source.rows, tuple(source.task.spec.label_words)) for source in library]

    def penalty(tasks: Sequence[int]) -> Tensor:
        return reconstruction * model.penalty(tasks)

    return train_prior(
        "subspace",
        backbone,
        model,
        joint,
        arguments,
        digests=tuple(source.adapter.digest for source in library),
        settings={
            "dimensions": dimensions,
            "hidden": hidden,
            "reconstruction": reconstruction,
            "weight_decay": weight_decay,
        },
        folder=folder,
        precision=precision,
        penalty=penalty,
        on_step=on_step,
    )
