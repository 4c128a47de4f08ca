"""PEFT reads what we export, and we read what PEFT saves: the same label scores either way."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from support.adapters import SENTIMENT, TOPIC, make_adapter
from support.training import QUICK, easy_task, run
from torch import Tensor
from transformers import T5ForConditionalGeneration

from adapters import PromptAdapter, TaskSpec
from adapters.files import (
    MANIFEST,
    READOUT,
    bundled_adapters,
    from_files,
    from_peft_files,
    read_folder,
    to_files,
    write_folder,
)
from adapters.readout import ReadoutKind
from backbone import Backbone, LabelVectors, LearnedState, PackedRow, pack

# PEFT asks transformers in the old way
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TEXTS = ["a gripping film", "flat and overlong " * 7, "which city is the capital of France ?", "x"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small lose more to threads that wait for each other than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(folder: Path) -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def peft_log_probs(model: PeftModel, token_ids: tuple[int, ...], labels: list[list[int]]) -> Tensor:
    """One text in PEFT: each label decoded by itself, a softmax over the trie's children a step; [K]."""
    start, longest = model.config.decoder_start_token_id, max(map(len, labels))
    # what stands behind a label's own tokens does not reach back to them: the decoder is causal
    decoder_ids = torch.tensor([[start, *words[:-1], *[start] * (longest - len(words))] for words in labels])
    input_ids = torch.tensor([token_ids]).expand(len(labels), -1)  # [K, T]
    logits = model(input_ids=input_ids, decoder_input_ids=decoder_ids).logits  # [K, longest, vocabulary]
    scores = []
    for row, words in zip(logits, labels, strict=True):
        total = torch.zeros(())
        for step, token in enumerate(words):
            children = sorted({other[step] for other in labels if other[:step] == words[:step] and len(other) > step})
            total = total + row[step, token] - torch.logsumexp(row[step, children], 0)
        scores.append(total)
    return torch.stack(scores)


@torch.inference_mode()
def largest_difference(backbone: Backbone, adapter: PromptAdapter, model: PeftModel) -> float:
    """Between the label log-probabilities of PEFT and ours, over all texts and labels; past 1, of their size."""
    spec = adapter.spec
    filled = [spec.render(dict.fromkeys(spec.fields, text)) for text in TEXTS]
    texts = backbone.tokenizer.tokenize(filled, max_tokens=512, truncation="error")
    rows = [PackedRow(range(adapter.num_virtual_tokens), text.token_ids) for text in texts]
    table = torch.from_numpy(adapter.prompt.copy())
    tries = [backbone.label_trie(spec.label_words)] * len(rows)
    ours = backbone.score(backbone.encode(pack(rows), table), tries)
    words = [[*pieces, backbone.architecture.eos_id] for pieces in backbone.tokenizer.pieces(spec.label_words)]
    theirs = torch.stack([peft_log_probs(model, text.token_ids, words) for text in texts])
    assert torch.equal(ours.argmax(1), theirs.argmax(1))
    return float(((ours - theirs).abs() / theirs.abs().clamp(min=1)).max())


@pytest.mark.parametrize("spec", [SENTIMENT, TOPIC], ids=["sentiment", "topic"])
@pytest.mark.parametrize("num_virtual_tokens", [1, 10, 100])
def test_peft_gives_an_exported_adapters_label_scores_as_we_do(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, spec: TaskSpec, num_virtual_tokens: int
) -> None:
    adapter = make_adapter(tiny, spec, num_virtual_tokens=num_virtual_tokens)
    write_folder(tmp_path, to_files(adapter, card="# A card\n"))
    model = PeftModel.from_pretrained(model_of(tiny_t5), tmp_path).eval()
    assert largest_difference(tiny, adapter, model) <= 1e-5


@torch.inference_mode()
def peft_state(model: PeftModel, token_ids: tuple[int, ...], kind: LearnedState, num_virtual_tokens: int) -> Tensor:
    """The state [S·H] of one text in PEFT that a learned readout is multiplied with."""
    start = torch.tensor([[model.config.decoder_start_token_id]])
    found = model(input_ids=torch.tensor([token_ids]), decoder_input_ids=start, output_hidden_states=True)
    mean = found.encoder_last_hidden_state[0, num_virtual_tokens:].mean(0)
    scale = model.config.d_model**-0.5 if model.base_model.config.scale_decoder_outputs else 1.0
    first = found.decoder_hidden_states[-1][0, 0] * scale
    return {"soft": first, "pooled": mean, "joint": torch.cat([first, mean])}[kind]


@pytest.mark.parametrize("kind", ["soft", "pooled", "joint"])
def test_peft_loads_a_folder_with_a_learned_readout_and_gives_the_states_that_it_reads(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, kind: LearnedState
) -> None:
    """The prompt alone is PEFT's: with the label words both score alike, and our readout scores PEFT's states."""
    adapter = make_adapter(tiny, TOPIC, readout=kind)
    write_folder(tmp_path, to_files(adapter))
    model = PeftModel.from_pretrained(model_of(tiny_t5), tmp_path).eval()
    assert largest_difference(tiny, adapter, model) <= 1e-5
    assert adapter.readout is not None
    vectors, bias = (torch.from_numpy(x.copy()) for x in (adapter.readout.label_vectors, adapter.readout.label_bias))
    readout = LabelVectors(kind, vectors, bias)
    for text in tiny.tokenizer.tokenize([TOPIC.render(text) for text in TEXTS], max_tokens=512, truncation="error"):
        packed = pack([PackedRow(range(adapter.num_virtual_tokens), text.token_ids)])
        with torch.inference_mode():
            ours = tiny.score(tiny.encode(packed, torch.from_numpy(adapter.prompt.copy())), [readout])[0]
            state = peft_state(model, text.token_ids, kind, adapter.num_virtual_tokens)
            theirs = torch.log_softmax(vectors @ state + bias, dim=-1)
        assert float((ours - theirs).abs().max()) <= 1e-5


@pytest.mark.parametrize("readout", ["words", "soft"])
@pytest.mark.slow
def test_peft_gives_the_label_scores_of_an_adapter_that_was_just_trained(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, readout: ReadoutKind
) -> None:
    """By its label words: a learned readout is ours alone."""
    arguments = dataclasses.replace(QUICK, epochs=1, readout=readout)
    run(tiny, easy_task(tmp_path), tmp_path / "run", arguments)
    folder = tmp_path / "run" / "adapter"
    adapter = from_files(read_folder(folder))
    assert adapter.manifest.readout == readout
    model = PeftModel.from_pretrained(model_of(tiny_t5), folder).eval()
    assert largest_difference(tiny, adapter, model) <= 1e-5


@pytest.mark.parametrize("kind", ["soft", "pooled", "joint"])
def test_a_folder_without_a_prompt_does_not_pretend_to_be_pefts(
    tiny: Backbone, tmp_path: Path, kind: LearnedState
) -> None:
    write_folder(tmp_path, to_files(make_adapter(tiny, TOPIC, num_virtual_tokens=0, readout=kind)))
    assert sorted(file.name for file in tmp_path.iterdir()) == [READOUT, MANIFEST]
    assert from_files(read_folder(tmp_path)).num_virtual_tokens == 0


def test_peft_answers_otherwise_with_another_prompt(tiny: Backbone, tiny_t5: Path, tmp_path: Path) -> None:
    write_folder(tmp_path, to_files(make_adapter(tiny, TOPIC, seed=1)))
    model = PeftModel.from_pretrained(model_of(tiny_t5), tmp_path).eval()
    exported = from_files(read_folder(tmp_path))
    assert largest_difference(tiny, exported, model) <= 1e-5
    with torch.no_grad():
        for weight in model.prompt_encoder.parameters():
            weight.mul_(-3)
    words = [[*pieces, 1] for pieces in tiny.tokenizer.pieces(TOPIC.label_words)]
    tokens = tiny.tokenizer.tokenize([TOPIC.render("x")], max_tokens=64, truncation="error")[0].token_ids
    before = PeftModel.from_pretrained(model_of(tiny_t5), tmp_path).eval()
    with torch.inference_mode():
        change = peft_log_probs(model, tokens, words) - peft_log_probs(before, tokens, words)
    assert change.abs().max() > 1e-3


@pytest.mark.parametrize("task", ["sst2", "ag_news", "trec", "rte"])
@pytest.mark.slow
def test_peft_gives_a_bundled_adapters_label_scores_as_the_embedded_backbone_does(
    embedded: Backbone, cache_dir: Path, tmp_path: Path, task: str
) -> None:
    files = bundled_adapters()[task]
    write_folder(tmp_path, files)
    # in double precision PEFT is the truth; in single its own rounding on real weights comes to 1e-5
    exact = model_of(cache_dir / "embedded-0.2.0").double()
    model = PeftModel.from_pretrained(exact, tmp_path).eval()
    assert largest_difference(embedded, from_files(files), model) <= 1e-5


@pytest.mark.parametrize("submodules", [1, 2, None])
@pytest.mark.slow
def test_a_folder_that_peft_saved_is_imported_and_scores_the_same(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, submodules: int | None
) -> None:
    torch.manual_seed(0)
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=10, num_transformer_submodules=submodules
    )
    model = get_peft_model(model_of(tiny_t5), config).eval()
    model.save_pretrained(str(tmp_path))
    files = read_folder(tmp_path)
    adapter = from_peft_files(files, task=TOPIC, backbone=make_adapter(tiny).manifest.backbone)
    adapter.check_backbone(fingerprint=tiny.identity.fingerprint, width=tiny.width)
    assert adapter.num_virtual_tokens == 10
    assert largest_difference(tiny, adapter, model) <= 1e-5
    again = tmp_path / "again"
    write_folder(again, to_files(adapter))
    assert largest_difference(tiny, adapter, PeftModel.from_pretrained(model_of(tiny_t5), again).eval()) <= 1e-5
