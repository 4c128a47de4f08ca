"""Reads a T5's tensors from two dynamically quantised ONNX graphs (encoder, decoder), under `transformers`' names.

Linear weights feed `MatMulInteger` nodes whose names contain the module path; norms and bias tables are named
initializers. A graph is refused unless every initializer with data is used and every parameter of T5 is found.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from backbone.errors import UnsupportedBackbone

_PREFIXES = {"encoder": ("enc.", "encoder."), "decoder": ("m.", "")}


def t5_tensors(encoder: Path, decoder: Path) -> dict[str, Tensor]:
    """Return every parameter of `T5ForConditionalGeneration` in float32.

    Raises:
        UnsupportedBackbone: an initializer does not belong to T5, or the two graphs' embedding tables differ
    """
    tensors = dict(_graph_tensors(encoder, *_PREFIXES["encoder"]))
    for name, tensor in _graph_tensors(decoder, *_PREFIXES["decoder"]):
        tensors[name] = tensor
    encoder_table = tensors.pop("encoder.embed_tokens.weight")
    if not torch.equal(encoder_table, tensors["shared.weight"]):
        raise UnsupportedBackbone(f"{encoder} and {decoder} hold different embedding tables")
    return tensors


def _graph_tensors(path: Path, prefix: str, replacement: str) -> Iterator[tuple[str, Tensor]]:
    graph = onnx.load(path).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            name = node.input[1].removesuffix("_quantized")
            # "/enc/block.0/layer.0/SelfAttention/q/MatMul_quant" → "enc.block.0.layer.0.SelfAttention.q"
            module = ".".join(node.name.strip("/").split("/")[:-1])
            weight = _dequantized(arrays, name)  # [in, out] in ONNX, [out, in] in PyTorch
            yield _renamed(f"{module}.weight", prefix, replacement), torch.from_numpy(weight.T.copy())
    for name in [name.removesuffix("_quantized") for name in arrays if name.endswith(".weight_quantized")]:
        yield _renamed(name, prefix, replacement), torch.from_numpy(_dequantized(arrays, name))
    for name in [name for name in arrays if name.endswith("norm.weight")]:
        yield _renamed(name, prefix, replacement), torch.from_numpy(arrays.pop(name).copy())
    unused = [name for name, array in arrays.items() if array.ndim > 1]
    if unused:
        raise UnsupportedBackbone(f"{path} has tensors that do not belong to T5: {unused[:5]}")


def _dequantized(arrays: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.float32]:
    quantized = arrays.pop(f"{name}_quantized").astype(np.float32)
    zero_point = arrays[f"{name}_zero_point"].astype(np.float32)
    scale = arrays[f"{name}_scale"].astype(np.float32)
    result: NDArray[np.float32] = (quantized - zero_point) * scale
    return result


def _renamed(name: str, prefix: str, replacement: str) -> str:
    return replacement + name.removeprefix(prefix) if name.startswith(prefix) else name
