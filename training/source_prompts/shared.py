"""Source training of MPT (Wang et al. 2023, §3.2): one shared prompt, distilled from the prompts of many tasks.

The loss of a row is that of its label plus λ times its distillation from the task's own prompt, the teacher:
L = L_PLM + λ (L_logits + L_hidden).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from backbone import Backbone, Precision
from training.errors import InvalidArguments
from training.loop.distillation import Teacher
from training.methods.multitask import SharedPrompt
from training.methods.prior import Prior
from training.methods.tokens import sample_token_ids
from training.source_prompts.collection import SourcePrompt, best_of_each_task
from training.source_prompts.joint import JointArguments, JointSource, JointStep, train_prior

FEWEST_TASKS = 2


def train_shared(
    backbone: Backbone,
    library: Sequence[SourcePrompt],
    arguments: JointArguments,
    *,
    distillation: float,
    weight_decay: float,
    folder: Path,
    precision: Precision = "fp32",
    on_step: Callable[[JointStep], None] = lambda step: None,
) -> Prior:
    """Train a shared prompt over the tasks of a library, and write it into a folder.

    The best prompt of each task teaches. P* starts at sampled token embeddings.

    Args:
        distillation: λ
        precision: of the frozen network during training
        folder: holds the checkpoint until the end, from which the training resumes, and then the prior

    Raises:
        InvalidArguments: the library has fewer than two tasks
        InvalidCheckpoint: the folder's checkpoint is damaged or of other settings
        TrainingError: the loss is not finite
    """
    sources = best_of_each_task(library)
    if len(sources) < FEWEST_TASKS:
        raise InvalidArguments(f"the library has {len(sources)} task, expected at least {FEWEST_TASKS} to share")
    device, length = backbone.device, len(sources[0].adapter.prompt)
    embedding = backbone.weights.embedding
    generator = torch.Generator().manual_seed(arguments.seed)
    start = embedding[sample_token_ids(length, vocab_size=len(embedding), generator=generator)]
    model = SharedPrompt(start, num_tasks=len(sources), weight_decay=weight_decay)
    joint = [
        JointSource(
            source.task.name,
            source.rows,
            tuple(source.task.spec.label_words),
            Teacher(source.prompt(device), distillation, "mpt"),
        )
        for source in sources
    ]
    return train_prior(
        "shared",
        backbone,
        model,
        joint,
        arguments,
        digests=tuple(source.adapter.digest for source in sources),
        settings={"distillation": distillation, "weight_decay": weight_decay},
        folder=folder,
        precision=precision,
        on_step=on_step,
    )
