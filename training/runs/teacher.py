"""The teacher of a run whose method learns from another prompt (PANDA)."""

from collections.abc import Sequence

import torch

from adapters.adapter import PromptAdapter
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.loop.distillation import Teacher
from training.methods import Method
from training.methods.prior import Source
from training.scoring.evaluation import TokenizedRows
from training.scoring.transferability import sampled_rows, transferability


def start_teacher(
    backbone: Backbone, arguments: TrainArguments, method: Method, sources: Sequence[Source], rows: TokenizedRows
) -> Teacher | None:
    """Return the teacher of a method that has one, else None.

    The last source teaches. Its weight is `arguments.distillation` times the transferability from the first source: to
    the teacher, if it is an adapter that was trained on this task from that source, otherwise to the initial prompt. A
    source that does not transfer (below 0) teaches nothing.

    Args:
        rows: the training rows
    """
    if arguments.method != "panda":
        return None
    prompts = [
        torch.from_numpy(source.prompt.copy()).to(backbone.device)
        for source in sources
        if isinstance(source, PromptAdapter)
    ]
    with torch.no_grad():
        target = prompts[1] if len(prompts) > 1 else method.prompt().detach()
    found = transferability(backbone, prompts[0], target, sampled_rows(rows.token_ids, seed=arguments.seed))
    return Teacher(prompts[-1], arguments.distillation * max(0.0, found), "panda")
