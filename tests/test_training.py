"""Training runs on a tiny T5: what they change, what they leave behind, and how they end."""

import dataclasses
import hashlib
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import SENTIMENT
from torch import Tensor, nn

from adapters import DEFAULT_TENANT, PromptAdapter, Ref, SqliteRegistry, TaskSpec
from adapters.bundle import bundled_adapters
from adapters.errors import InvalidAdapter
from adapters.files import CARD, from_files, read_folder
from backbone import Backbone, InvalidLabels
from training.data import Example, read_examples
from training.errors import InvalidArguments, InvalidData
from training.evaluation import evaluate, tokenize_examples
from training.loop import EpochEvent, StepEvent, TrainArguments, TrainResult, make_method, train
from training.methods import Method, MethodName, ParameterGroup
from training.run import RunReport, evaluate_adapter, run_training
from training.run_folder import RunFolder, fresh_folder
from training.splits import Split
from training.task_file import DataSource, Metric, TaskFile

SPEC = TaskSpec(template="text: {text}", labels={"sports": "sports", "business": "business"}, max_tokens=32)
WORDS = ["gripping", "film", "the", "quick", "brown", "fox", "over", "lazy", "dog", "city"]
QUICK = TrainArguments(epochs=4, batch_size=12, lr=0.05, num_virtual_tokens=6, num_sampled_tokens=32)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A model as small as this is quickest on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def easy_rows(count: int, *, seed: int) -> list[dict[str, str]]:
    """Rows whose label stands among a few other words."""
    drawn = random.Random(seed)
    rows = []
    for _ in range(count):
        label = drawn.choice(["sports", "business"])
        words = drawn.sample(WORDS, 2)
        words.insert(drawn.randrange(3), label)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def easy_task(folder: Path, *, metric: Metric = "accuracy") -> TaskFile:
    """A task that a prompt learns in seconds, its rows in a folder."""
    train_path = write_rows(folder / "train.jsonl", easy_rows(120, seed=1))
    report_path = write_rows(folder / "validation.jsonl", easy_rows(60, seed=2))
    data = DataSource(train=str(train_path), validation=str(report_path))
    return TaskFile(name="topic", description="What a text is about.", spec=SPEC, metric=metric, data=data)


@pytest.fixture
def task(tmp_path: Path) -> TaskFile:
    return easy_task(tmp_path)


@dataclasses.dataclass
class Finished:
    """A run that is done, with what it told on its way."""

    report: RunReport
    task: TaskFile
    steps: list[StepEvent]
    epochs: list[EpochEvent]


def run(
    backbone: Backbone,
    task: TaskFile,
    folder: Path,
    arguments: TrainArguments = QUICK,
    *,
    split: Split = "honest",
    limit: int | None = None,
) -> Finished:
    steps: list[StepEvent] = []
    epochs: list[EpochEvent] = []
    report = run_training(
        backbone,
        task,
        arguments,
        RunFolder(folder),
        split=split,
        limit=limit,
        on_step=steps.append,
        on_epoch=epochs.append,
    )
    return Finished(report, task, steps, epochs)


@pytest.fixture(scope="module")
def untouched(tiny: Backbone) -> dict[str, Tensor]:
    """Every tensor of the backbone as it was before the first run of this module."""
    return {name: tensor.clone() for name, tensor in tiny.weights.tensors().items()}


@pytest.fixture(scope="module")
def finished(tiny: Backbone, untouched: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run with QUICK's arguments, for the tests that look at what it left."""
    folder = tmp_path_factory.mktemp("finished")
    return run(tiny, easy_task(folder), folder / "run")


def lines_of(folder: Path) -> list[dict[str, object]]:
    """`metrics.jsonl` as strict JSON, which has no NaN."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"metrics.jsonl holds {constant}, which is not JSON")

    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


# --- what a run changes


def test_training_changes_no_tensor_of_the_backbone(
    tiny: Backbone, untouched: dict[str, Tensor], finished: Finished
) -> None:
    after = tiny.weights.tensors()
    assert finished.report.result.best_epoch > 0
    assert after.keys() == untouched.keys()
    assert len(after) > 30
    for name, tensor in after.items():
        assert torch.equal(tensor, untouched[name]), name
        assert not tensor.requires_grad, name
        assert tensor.grad is None, name


def test_training_lowers_the_loss_and_beats_the_untrained_prompt(finished: Finished) -> None:
    report = finished.report
    assert report.result.stop == "finished"
    assert report.trained.accuracy >= max(0.9, report.untrained.accuracy + 0.2)
    assert report.trained.accuracy > report.trained.constant_accuracy
    assert report.trained.loss < report.untrained.loss / 2
    assert not report.trained.collapsed
    losses = [event.train_loss for event in finished.epochs]
    assert losses[0] is None
    assert losses[-1] is not None
    assert losses[1] is not None
    assert losses[-1] < losses[1] / 2


@pytest.mark.parametrize(("method", "lr"), [("superpos", 0.05), ("simple", 1.0)])
def test_other_methods_and_bases_learn_too(
    tiny: Backbone, task: TaskFile, tmp_path: Path, method: MethodName, lr: float
) -> None:
    arguments = dataclasses.replace(QUICK, method=method, basis="shared", lr=lr, epochs=3)
    report = run(tiny, task, tmp_path / "run", arguments).report
    assert report.trained.accuracy > report.untrained.accuracy + 0.2
    provenance = report.adapter.manifest.provenance
    assert provenance.method == method
    assert ("basis" in provenance.hyperparameters) == (method == "superpos")
    assert len(provenance.sampled_token_ids) == (32 if method == "superpos" else 6)


# --- seeds


def test_one_seed_gives_one_digest_and_another_seed_another(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    quick = dataclasses.replace(QUICK, epochs=1)
    other = dataclasses.replace(quick, seed=1)
    first, again, third = (
        run(tiny, task, tmp_path / f"run{number}", arguments).report
        for number, arguments in enumerate((quick, quick, other))
    )
    assert first.adapter.digest == again.adapter.digest
    assert np.array_equal(first.adapter.prompt, again.adapter.prompt)
    assert read_folder(first.folder / "adapter") == read_folder(again.folder / "adapter")
    assert first.adapter.digest != third.adapter.digest
    assert not np.array_equal(first.adapter.prompt, third.adapter.prompt)


def test_the_global_random_state_neither_matters_nor_moves(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    quick = dataclasses.replace(QUICK, epochs=1)
    digests = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), random.getstate()
        digests.append(run(tiny, task, tmp_path / f"run{seed}", quick, limit=24).report.adapter.digest)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
    assert digests[0] == digests[1]


# --- what a run leaves behind


def test_the_run_folder_holds_an_adapter_that_passes_every_check(tiny: Backbone, finished: Finished) -> None:
    adapter = from_files(read_folder(finished.report.folder / "adapter"))
    assert adapter.digest == finished.report.adapter.digest
    assert np.array_equal(adapter.prompt, finished.report.result.prompt)
    assert adapter.spec == SPEC
    adapter.check_backbone(fingerprint=tiny.identity.fingerprint, width=tiny.width)


def test_provenance_says_what_the_run_was_made_of(finished: Finished) -> None:
    provenance = finished.report.adapter.manifest.provenance
    result, task = finished.report.result, finished.task
    assert (provenance.method, provenance.seed) == ("superpos", 0)
    assert len(set(provenance.sampled_token_ids)) == 32
    asked = dataclasses.asdict(QUICK)
    assert provenance.hyperparameters == asked | {"best_epoch": result.best_epoch, "stop": "finished"}
    assert task.data.validation is not None
    assert provenance.data == {
        "split": "honest",
        "train_file": "train.jsonl",
        "train_sha256": hashlib.sha256(Path(task.data.train).read_bytes()).hexdigest(),
        "validation_file": "validation.jsonl",
        "validation_sha256": hashlib.sha256(Path(task.data.validation).read_bytes()).hexdigest(),
        "train_rows": 108,
        "selection_rows": 12,
        "report_rows": 60,
    }
    assert provenance.metrics["report_accuracy"] == pytest.approx(finished.report.trained.accuracy, abs=1e-6)
    assert provenance.metrics["untrained_loss"] == pytest.approx(finished.report.untrained.loss, abs=1e-6)
    assert provenance.metrics["selection_loss"] == pytest.approx(result.best.loss, abs=1e-6)
    assert {"superpos", "torch", "transformers", "python"} <= provenance.software.keys()


def test_metrics_has_a_line_an_epoch_from_the_untrained_prompt_on(finished: Finished) -> None:
    lines = lines_of(finished.report.folder)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    for line, event in zip(lines, finished.report.result.epochs, strict=True):
        assert line["train_loss"] == event.train_loss
        assert line["accuracy"] == event.metrics.accuracy
        assert line["macro_f1"] == event.metrics.macro_f1
        assert line["loss"] == event.metrics.loss
        assert line["best"] == event.is_best
    assert lines[0]["train_loss"] is None
    assert lines[0]["best"] is True


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_epoch_kept_is_the_best_that_metrics_tells_of(tiny: Backbone, tmp_path: Path, metric: Metric) -> None:
    # at so high a rate the last epoch is not the best
    arguments = dataclasses.replace(QUICK, lr=1.0)
    finished = run(tiny, easy_task(tmp_path, metric=metric), tmp_path / "run", arguments)
    lines = lines_of(tmp_path / "run")
    ranks = [(float(str(line[metric])), -float(str(line["loss"]))) for line in lines]
    best = finished.report.result.best_epoch
    assert best == ranks.index(max(ranks))
    assert best == max(int(str(line["epoch"])) for line in lines if line["best"])
    assert np.array_equal(finished.report.adapter.prompt, finished.report.result.epochs[best].prompt)
    assert finished.report.adapter.manifest.provenance.hyperparameters["best_epoch"] == best
    assert finished.report.adapter.manifest.provenance.hyperparameters["metric"] == metric


def test_run_json_says_what_the_run_was_asked_to_do(finished: Finished) -> None:
    asked = json.loads((finished.report.folder / "run.json").read_text(encoding="utf-8"))
    assert asked["arguments"] == dataclasses.asdict(QUICK)
    assert TaskFile.model_validate(asked["task"]) == finished.task


def test_the_card_states_accuracy_and_split(tiny: Backbone, task: TaskFile, tmp_path: Path, finished: Finished) -> None:
    paper = run(tiny, task, tmp_path / "paper", dataclasses.replace(QUICK, epochs=1), split="paper").report
    for report, split, meaning in (
        (finished.report, "honest", "held-out training rows"),
        (paper, "paper", "flatter"),
    ):
        card = (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
        assert f"| split | `{split}`: " in card
        assert meaning in card
        figures = f"{report.trained.accuracy:.3f} | {report.trained.macro_f1:.3f} | {report.trained.loss:.3f}"
        assert f"| trained, report | {figures} |" in card
        assert f"| untrained, report | {report.untrained.accuracy:.3f} |" in card
        assert f"gives accuracy {report.trained.constant_accuracy:.3f}" in card
        assert "text: {text}" in card


def test_a_card_warns_of_a_collapse(tiny: Backbone, tmp_path: Path) -> None:
    # one report row can have but one answer
    data = DataSource(
        train=str(write_rows(tmp_path / "train.jsonl", easy_rows(20, seed=1))),
        validation=str(write_rows(tmp_path / "one.jsonl", easy_rows(1, seed=2))),
    )
    task = TaskFile(name="topic", spec=SPEC, data=data)
    report = run(tiny, task, tmp_path / "run", dataclasses.replace(QUICK, epochs=1)).report
    assert "collapsed" in (report.folder / "adapter" / CARD).read_text(encoding="utf-8")
    assert report.adapter.manifest.provenance.metrics["collapsed"] == 1.0


def test_steps_are_told_in_order_with_their_rows(finished: Finished) -> None:
    assert [event.step for event in finished.steps] == list(range(1, 37))
    assert {event.num_steps for event in finished.steps} == {36}
    assert [event.epoch for event in finished.steps] == sorted([1, 2, 3, 4] * 9)
    assert all(sum(e.rows for e in finished.steps if e.epoch == epoch) == 108 for epoch in (1, 2, 3, 4))
    assert [event.epoch for event in finished.epochs] == [0, 1, 2, 3, 4]


def test_the_last_batch_of_an_epoch_may_be_smaller_but_no_row_is_dropped(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    arguments = dataclasses.replace(QUICK, epochs=1, batch_size=16)
    steps = run(tiny, task, tmp_path / "run", arguments, limit=37).steps
    assert [event.rows for event in steps] == [16, 16, 5]
    assert {event.num_steps for event in steps} == {3}


def test_rows_that_are_cut_are_counted(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    short = SPEC.model_copy(update={"max_tokens": 4})
    arguments = dataclasses.replace(QUICK, epochs=1)
    report = run(tiny, task.model_copy(update={"spec": short}), tmp_path / "run", arguments, limit=24).report
    assert report.num_truncated == 24


def test_a_folder_that_holds_a_run_is_refused(finished: Finished) -> None:
    with pytest.raises(InvalidArguments, match="holds a run already"):
        RunFolder(finished.report.folder)


def test_a_run_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InvalidArguments, match="cannot make the run folder"):
            RunFolder(path)


def test_a_fresh_folder_is_the_first_that_is_free(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = fresh_folder(tmp_path / "runs", "topic")
        path.mkdir(parents=True)
        names.append(path.name)
    assert names == ["topic", "topic-2", "topic-3"]


def test_the_digest_outlives_the_folder_and_the_registry(tmp_path: Path, finished: Finished) -> None:
    registry = SqliteRegistry(tmp_path / "registry.sqlite")
    written = read_folder(finished.report.folder / "adapter")
    done = registry.publish(DEFAULT_TENANT, "topic", written, actor="test")
    assert done.digest == finished.report.adapter.digest
    resolved = SqliteRegistry(tmp_path / "registry.sqlite").resolve(DEFAULT_TENANT, Ref.parse("topic"))
    files = registry.get(resolved.digest)
    assert files == written
    assert from_files(files).digest == finished.report.adapter.digest


# --- evaluating an adapter


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


# --- how a run ends


def test_an_interrupt_keeps_the_best_so_far(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    def interrupt(event: StepEvent) -> None:
        if event.step == 22:
            raise KeyboardInterrupt

    report = run_training(tiny, task, QUICK, RunFolder(tmp_path / "run"), on_step=interrupt)
    assert report.result.stop == "interrupted"
    assert [event.epoch for event in report.result.epochs] == [0, 1, 2]
    assert report.result.best_epoch in (1, 2)
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert np.array_equal(adapter.prompt, report.result.epochs[report.result.best_epoch].prompt)
    assert adapter.manifest.provenance.hyperparameters["stop"] == "interrupted"
    assert [line["epoch"] for line in lines_of(tmp_path / "run")] == [0, 1, 2]


def test_an_interrupt_in_the_first_epoch_keeps_the_untrained_prompt(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    def interrupt(event: StepEvent) -> None:
        raise KeyboardInterrupt

    report = run_training(tiny, task, QUICK, RunFolder(tmp_path / "run"), on_step=interrupt)
    assert (report.result.stop, report.result.best_epoch) == ("interrupted", 0)
    assert report.trained == report.untrained


@dataclasses.dataclass
class Spoiled:
    """A method that trains well until its prompt has been asked for so often, and is no number from then on."""

    method: Method
    calls: int
    value: float = math.nan

    @property
    def sampled_token_ids(self) -> tuple[int, ...]:
        return self.method.sampled_token_ids

    def prompt(self) -> Tensor:
        self.calls -= 1
        prompt = self.method.prompt()
        return prompt if self.calls >= 0 else prompt * self.value

    def parameter_groups(self) -> list[ParameterGroup]:
        return self.method.parameter_groups()


def train_spoiled(
    backbone: Backbone, calls: int, *, value: float = math.nan, epochs: int = 5, one_label: bool = False
) -> tuple[TrainResult, list[EpochEvent]]:
    """Train on 36 rows, 3 steps an epoch: each epoch asks for the prompt four times, the untrained one once.

    `one_label` turns the labels around and calls every selection row `business`, then label 0, which the untrained
    prompt answers for none.
    """
    examples = [
        Example(f"text: {row['text']}", ["sports", "business"].index(row["label"])) for row in easy_rows(48, seed=3)
    ]
    held_out = [Example(example.text, 0 if one_label else example.label) for example in examples[36:]]
    arguments = dataclasses.replace(QUICK, epochs=epochs)
    told: list[EpochEvent] = []
    result = train(
        backbone,
        Spoiled(make_method(arguments, backbone.weights.embedding), calls, value),
        arguments,
        trie=backbone.label_trie(SPEC.label_words[::-1] if one_label else SPEC.label_words),
        rows=tokenize_examples(backbone, SPEC, examples[:36]),
        selection=tokenize_examples(backbone, SPEC, held_out),
        on_epoch=told.append,
    )
    return result, told


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_best(tiny: Backbone, value: float) -> None:
    result, epochs = train_spoiled(tiny, 1 + 4 * 2 + 1, value=value)  # in the second step of epoch 3
    assert result.stop == "diverged"
    assert [event.epoch for event in epochs] == [0, 1, 2]
    assert np.isfinite(result.prompt).all()
    assert math.isfinite(result.best.loss)
    assert np.array_equal(result.prompt, epochs[result.best_epoch].prompt)


def test_a_run_that_diverges_in_its_first_step_keeps_the_untrained_prompt(tiny: Backbone) -> None:
    result, epochs = train_spoiled(tiny, 1)
    assert (result.stop, result.best_epoch, len(epochs)) == ("diverged", 0, 1)
    assert np.isfinite(result.prompt).all()


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_prompt_that_is_no_number_at_an_epochs_end_is_never_the_best(tiny: Backbone, epochs: int) -> None:
    # the largest of no numbers is found at label 0, which is right for every selection row here
    result, _ = train_spoiled(tiny, 1 + 3, epochs=epochs, one_label=True)
    assert result.untrained.accuracy < 1
    assert result.stop == "diverged"
    assert np.isfinite(result.prompt).all()
    assert math.isfinite(result.best.loss)


def test_a_rate_far_too_high_still_leaves_an_adapter(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    arguments = dataclasses.replace(QUICK, lr=100, epochs=2)
    report = run(tiny, task, tmp_path / "run", arguments).report
    adapter = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert adapter.digest == report.adapter.digest
    assert all(math.isfinite(float(str(line["loss"]))) for line in lines_of(tmp_path / "run"))


class Exploding(nn.Module):
    """A prompt that one step at a high rate throws past what a float can hold."""

    sampled_token_ids: tuple[int, ...] = ()

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self._exponent = nn.Parameter(torch.zeros(()))
        self._start = start  # [P, H]

    def prompt(self) -> Tensor:
        return self._start * torch.exp(self._exponent.square() * 1e4 + self._exponent * 1e4)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"params": [self._exponent], "weight_decay": 0.0}]


def test_a_diverging_optimiser_is_noticed_without_help(tiny: Backbone) -> None:
    examples = [Example(f"text: {row['text']}", 0) for row in easy_rows(24, seed=3)]
    rows = tokenize_examples(tiny, SPEC, examples)
    start = tiny.weights.embedding[3:9].clone()
    result = train(
        tiny,
        Exploding(start),
        dataclasses.replace(QUICK, lr=100.0),
        trie=tiny.label_trie(SPEC.label_words),
        rows=rows,
        selection=rows,
    )
    assert result.stop == "diverged"
    assert np.array_equal(result.prompt, start.numpy())


# --- refusals


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_virtual_tokens": 0}, "num_virtual_tokens is 0, expected 1 to 100"),
        ({"num_virtual_tokens": 101}, "num_virtual_tokens is 101, expected 1 to 100"),
        ({"num_sampled_tokens": 0}, "num_sampled_tokens is 0, expected 1 to 31997"),
        ({"num_sampled_tokens": 31_998}, "num_sampled_tokens is 31998, expected 1 to 31997"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 4_097}, "batch_size is 4097"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"lr": 101.0}, "lr is 101.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"lr": math.inf}, "lr is inf"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"weight_decay": math.nan}, "weight_decay is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, f"seed is {2**64}"),
    ],
)
def test_an_argument_outside_its_range_is_refused_with_its_value(changes: dict[str, float], expected: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        TrainArguments(**changes)
    assert str(caught.value).startswith(expected)


def test_the_ends_of_each_range_are_allowed() -> None:
    TrainArguments(num_virtual_tokens=1, num_sampled_tokens=1, epochs=1, batch_size=1, lr=1e-9)
    TrainArguments(num_virtual_tokens=100, num_sampled_tokens=31_997, batch_size=4_096, lr=100)


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused_before_a_run_begins(
    tiny: Backbone, task: TaskFile, tmp_path: Path
) -> None:
    same = SENTIMENT.model_copy(
        update={"template": "{text}", "labels": TaskSpec(template="{t}", labels={"a": "\u4e00", "b": "\u4e8c"}).labels}
    )
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InvalidLabels):
        run_training(tiny, task.model_copy(update={"spec": same}), QUICK, folder)
    assert not (tmp_path / "run").exists()


def test_bad_rows_are_refused_before_anything_is_written(tiny: Backbone, task: TaskFile, tmp_path: Path) -> None:
    write_rows(Path(task.data.train), [*easy_rows(20, seed=1), {"text": "a", "label": "world"}])
    with pytest.raises(InvalidData, match="line 21"):
        run_training(tiny, task, QUICK, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    RunFolder(tmp_path / "run")


# --- the bundled adapter


@pytest.mark.data
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
