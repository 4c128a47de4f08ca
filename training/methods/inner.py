"""Small weights inside the frozen network, the baselines LoRA and Houlsby's adapters.

They change the network instead of its input, so that no row can share a forward with rows of other tasks. They are
trained and measured, but never served.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5ForConditionalGeneration

from training.errors import InvalidArguments

_START_STD = 0.01
"""Houlsby et al. 2019, §3.6: adapters start near the identity, with weights of this standard deviation."""


def with_lora(model: T5ForConditionalGeneration, *, rank: int, seed: int) -> T5ForConditionalGeneration:
    """Add LoRA (Hu et al. 2022) to the query and value projections of every attention, by PEFT, and freeze the rest.

    W + B·A with A [r, in] and B [out, r], B = 0 at the start; the scale α / r is 1, as in the paper's Table 9.

    Raises:
        InvalidArguments: PEFT is not installed
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - optional, and slow to import
    except ImportError as exc:
        raise InvalidArguments("method 'lora' needs peft, which is not installed: pip install peft") from exc
    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=["q", "v"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    return model


class Bottleneck(nn.Module):
    """h + W_up · GELU(W_down · h + b_down) + b_up, added to the output of a sublayer."""

    def __init__(self, width: int, bottleneck: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(bottleneck, width, generator=generator) * _START_STD)
        self.down_bias = nn.Parameter(torch.zeros(bottleneck))
        self.up = nn.Parameter(torch.randn(width, bottleneck, generator=generator) * _START_STD)
        self.up_bias = nn.Parameter(torch.zeros(width))

    def forward(self, hidden: Tensor) -> Tensor:
        inner = F.gelu(F.linear(hidden, self.down, self.down_bias))
        return hidden + F.linear(inner, self.up, self.up_bias)


def with_bottlenecks(model: T5ForConditionalGeneration, *, bottleneck: int, seed: int) -> T5ForConditionalGeneration:
    """Add Houlsby's adapters (Houlsby et al. 2019, §2.1), and freeze the rest but for the layer norms.

    There is one after the projection of every attention and of every feed-forward layer, before the skip connection.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    projections = [
        module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in ("o", "wo") and "block" in name
    ]
    added = nn.ModuleList(Bottleneck(model.config.d_model, bottleneck, generator=generator) for _ in projections).to(
        model.device
    )
    for module, adapter in zip(projections, added, strict=True):
        module.register_forward_hook(lambda _module, _inputs, output, adapter=adapter: adapter(output))
    model.add_module("bottlenecks", added)
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            parameter.requires_grad_(True)
    return model
