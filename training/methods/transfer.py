"""SPoT (Vu et al. 2022): a prompt that starts as another task's trained prompt."""

from torch import Tensor

from training.errors import InvalidArguments
from training.methods.simple import Simple


def transfer(source: Tensor, *, num_virtual_tokens: int, weight_decay: float) -> Simple:
    """Simple prompt tuning from a source prompt [P, H].

    Raises:
        InvalidArguments: the source has another number of vectors than asked for
    """
    if len(source) != num_virtual_tokens:
        raise InvalidArguments(f"the source prompt has {len(source)} virtual tokens, expected {num_virtual_tokens}")
    return Simple(source, weight_decay=weight_decay)
