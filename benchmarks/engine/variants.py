"""Engines of `benchmarks/engine`, each behind one function from token ids to two labels' logits.

A variant is made from a folder with a `transformers` T5 and imports only what it needs, since the peers' environment
lacks Superpos' dependencies. A row has P + T token ids for all engines: Superpos replaces P of them by rows of a
prompt, the others, which have no soft prompts, read P more tokens. Padding counts as part of the engine's time.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from backbone.precision import Precision

TokenIds = Sequence[Sequence[int]]
Run = Callable[[], Any]
"""One forward over a workload; returns the labels' scores [B, K] if they are cheap to return, else None."""
Variant = Callable[[TokenIds], Run]

PROMPT_LENGTH = 10
LABELS = ("negative", "positive")


def make(name: str, folder: Path, scratch: Path) -> Variant:
    """Make a variant by name; `scratch` is a folder for converted models."""
    maker: Callable[..., Variant] = {
        "superpos_fp32": _superpos,
        "superpos_int8": _superpos,
        "superpos_bf16": _superpos,
        "generate2": _generate2,
        "one_step": _one_step,
        "ctranslate2_fp32": _ctranslate2,
        "ctranslate2_int8": _ctranslate2,
        "onnxruntime_fp32": _onnxruntime,
        "onnxruntime_int8": _onnxruntime,
    }[name]
    return maker(folder, scratch, name.rpartition("_")[2])


def _superpos(folder: Path, scratch: Path, precision: str) -> Variant:
    import torch

    from backbone import PackedRow, load, pack

    backbone = load(str(folder), cache_dir=scratch, precision=cast("Precision", precision))
    trie = backbone.label_trie(LABELS)
    table = backbone.weights.embedding  # a prompt of token embeddings, so that the peers can read the same row

    def workload(token_ids: TokenIds) -> Run:
        rows = [PackedRow(ids[:PROMPT_LENGTH], ids[PROMPT_LENGTH:]) for ids in token_ids]

        @torch.inference_mode()
        def run() -> Any:
            return backbone.score(backbone.encode(pack(rows), table), [trie] * len(rows))

        return run

    return workload


def _model(folder: Path) -> Any:
    import torch
    from transformers import T5ForConditionalGeneration

    return T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def _generate2(folder: Path, scratch: Path, kind: str) -> Variant:
    """Make the engine of a fair plain server: greedy generation of a label word and its end."""
    import torch

    model = _model(folder)

    def workload(token_ids: TokenIds) -> Run:
        @torch.inference_mode()
        def run() -> Any:
            model.generate(**padded(token_ids), max_new_tokens=2, min_new_tokens=2, do_sample=False)

        return run

    return workload


def _one_step(folder: Path, scratch: Path, kind: str) -> Variant:
    """Make the cheapest plain engine: one decoder position, and a softmax over the label words' first pieces."""
    import torch

    model, labels = _model(folder), _label_ids(folder)

    def workload(token_ids: TokenIds) -> Run:
        start = torch.zeros(len(token_ids), 1, dtype=torch.int64)

        @torch.inference_mode()
        def run() -> Any:
            logits = model(**padded(token_ids), decoder_input_ids=start).logits[:, 0, labels]
            return torch.log_softmax(logits, -1)

        return run

    return workload


def padded(token_ids: TokenIds) -> dict[str, Any]:
    import torch

    rows = [torch.tensor(ids) for ids in token_ids]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask}


def _label_ids(folder: Path) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(label, add_special_tokens=False).ids[0] for label in LABELS]


def _ctranslate2(folder: Path, scratch: Path, precision: str) -> Variant:
    """Make the fastest plain T5: sorted batches without padding between rows, one decoding step."""
    import os

    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from tokenizers import Tokenizer

    converted = scratch / "ctranslate2"
    if not converted.exists():
        TransformersConverter(str(folder)).convert(str(converted))
    compute_type = "int8" if precision == "int8" else "float32"
    threads = int(os.environ["OMP_NUM_THREADS"])
    translator = ctranslate2.Translator(str(converted), compute_type=compute_type, intra_threads=threads)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def workload(token_ids: TokenIds) -> Run:
        tokens = [[tokenizer.id_to_token(i) for i in ids] for ids in token_ids]

        def run() -> Any:
            translator.translate_batch(tokens, beam_size=1, max_decoding_length=1)

        return run

    return workload


def _onnxruntime(folder: Path, scratch: Path, precision: str) -> Variant:
    """Make the whole model with one decoder position as one graph; int8 is dynamic, with weights per output channel."""
    import os

    import onnxruntime
    import torch

    graph = scratch / f"{precision}.onnx"
    if not graph.exists():
        _export(folder, scratch / "fp32.onnx")
    if not graph.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(scratch / "fp32.onnx", graph, per_channel=True, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    session, labels = onnxruntime.InferenceSession(graph, options), _label_ids(folder)

    def workload(token_ids: TokenIds) -> Run:
        def run() -> Any:
            inputs = {name: value.numpy() for name, value in padded(token_ids).items()}
            (logits,) = session.run(None, inputs)
            return torch.log_softmax(torch.from_numpy(logits[:, labels]), -1)

        return run

    return workload


def _export(folder: Path, target: Path) -> None:
    import torch
    from transformers import T5ForConditionalGeneration

    class OneStep(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = T5ForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            ).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            start = torch.zeros_like(input_ids[:, :1])
            model = self.model
            return model(
                input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=start, use_cache=False
            ).logits[:, 0]

    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    example = padded([range(3, 20), range(3, 12), range(3, 15)])
    torch.onnx.export(
        OneStep(),
        (example["input_ids"], example["attention_mask"]),
        str(target),
        input_names=["input_ids", "attention_mask"],
        dynamic_shapes={name: {0: rows, 1: columns} for name in ("input_ids", "attention_mask")},
        dynamo=True,
    )
