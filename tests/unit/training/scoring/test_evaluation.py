"""Evaluating an adapter on labelled rows: one that was just trained, and the bundled one."""

from pathlib import Path

import pytest
import torch
from support.training import Finished, write_rows

from adapters import PromptAdapter, TaskSpec
from adapters.errors import InvalidAdapter
from adapters.files import bundled_adapters, from_files, read_folder
from backbone import Backbone
from training.data.examples import Example, read_examples
from training.errors import InvalidData
from training.scoring.adapter_answers import answers, read_adapter_rows
from training.scoring.evaluation import evaluate, tokenize_examples
from training.scoring.metrics import Metrics, measure
from training.task.task_file import DataSource, TaskFile

pytestmark = pytest.mark.usefixtures("one_thread")


def evaluate_adapter(backbone: Backbone, adapter: PromptAdapter, task: TaskFile, path: Path) -> Metrics:
    rows = tokenize_examples(backbone, adapter.spec, read_adapter_rows(backbone, adapter, task, path).examples)
    return measure(answers(backbone, adapter, rows), rows.labels)


def test_evaluating_the_adapter_again_gives_the_figures_of_its_report(tiny: Backbone, finished: Finished) -> None:
    assert finished.task.data.validation is not None
    adapter = from_files(read_folder(finished.report.folder / "adapter"))
    metrics = evaluate_adapter(tiny, adapter, finished.task, Path(finished.task.data.validation))
    assert metrics.figures() == pytest.approx(finished.report.trained.figures(), abs=1e-6)


def test_an_adapter_is_evaluated_under_its_own_template_and_labels(tiny: Backbone, finished: Finished) -> None:
    assert finished.task.data.validation is not None
    other = TaskSpec(template="never {text}", labels={"business": "yes", "sports": "no"}, max_tokens=2)
    metrics = evaluate_adapter(
        tiny,
        finished.report.adapter,
        finished.task.model_copy(update={"spec": other}),
        Path(finished.task.data.validation),
    )
    assert metrics.figures() == pytest.approx(finished.report.trained.figures(), abs=1e-6)


def test_an_adapter_for_another_backbone_is_not_evaluated(tiny: Backbone, finished: Finished) -> None:
    adapter = finished.report.adapter
    stranger = adapter.manifest.backbone.model_copy(update={"fingerprint": "sha256:" + "0" * 64})
    foreign = PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update={"backbone": stranger}))
    with pytest.raises(InvalidAdapter, match="fingerprint"):
        evaluate_adapter(tiny, foreign, finished.task, Path(finished.task.data.train))


def test_rows_with_labels_that_the_adapter_lacks_are_refused(
    tiny: Backbone, tmp_path: Path, finished: Finished
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": "sports"}, {"text": "b", "label": "world"}])
    with pytest.raises(InvalidData, match="line 2: field 'label' is 'world'"):
        evaluate_adapter(tiny, finished.report.adapter, finished.task, rows)


@pytest.mark.data
@pytest.mark.slow
def test_the_bundled_sst2_adapter_knows_sentiment(embedded: Backbone, data_dir: Path) -> None:
    bundled = bundled_adapters()
    assert "sst2" in bundled, "no bundled sst2 adapter"
    adapter = from_files(bundled["sst2"])
    adapter.check_backbone(fingerprint=embedded.identity.fingerprint, width=embedded.width)
    path = data_dir / "sst2" / "validation.parquet"
    values = {"0": "negative", "1": "positive"}
    task = TaskFile(name="sst2", spec=adapter.spec, data=DataSource(train=str(path), label_values=values))
    rows = tokenize_examples(embedded, adapter.spec, read_examples(path, task).examples[:100])
    trie = embedded.label_trie(adapter.spec.label_words)
    metrics = evaluate(embedded, torch.from_numpy(adapter.prompt.copy()), trie, rows)
    assert len(rows) == 100
    assert metrics.accuracy >= 0.8


def test_limits_without_room_for_a_field_refuse_the_row_and_name_it(tiny: Backbone) -> None:
    (own_words,) = tiny.tokenizer.pieces(["the world of sports  and "])
    spec = TaskSpec(
        template="the world of sports {text} and {more}",
        labels={"a": "yes", "b": "no"},
        max_tokens=len(own_words),
    )
    row = Example("the long one", 1, fields={"text": "science " * 9, "more": "business " * 9})
    with pytest.raises(InvalidData, match=r"the row 'the long one' has \d+ tokens.*max_tokens"):
        tokenize_examples(tiny, spec, [row])
    roomy = spec.model_copy(update={"max_tokens": spec.max_tokens + 20})
    assert tokenize_examples(tiny, roomy, [row]).num_truncated == 1
