"""The task files of examples/tasks: what each asks, and that it loads its real rows."""

from collections import Counter
from pathlib import Path

import pytest

from backbone import Backbone
from training.data.examples import read_examples
from training.task.task_file import TaskFile, load_task_file

FOLDER = Path(__file__).parents[4] / "examples" / "tasks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
FIGURES = {
    "qqp": ("f1", "accuracy"),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "cola": ("matthews",),
    "multirc": ("f1a", "exact_match"),
    "cb": ("macro_f1", "accuracy"),
    "messages": ("micro_f1", "macro_f1"),
}
ROWS = {
    "ag_news": (6_000, 800),
    "banking77": (9_003, 1_000),
    "boolq": (2_470, 800),
    "cb": (250, 56),
    "cola": (8_551, 1_043),
    "copa": (400, 100),
    "mnli": (8_999, 1_000),
    "mrpc": (3_668, 408),
    "multirc": (27_243, 4_848),
    "qnli": (8_999, 5_463),
    "qqp": (8_999, 1_000),
    "rte": (2_490, 277),
    "sst2": (67_349, 872),
    "stsb": (5_749, 1_500),
    "tickets": (360, 120),
    "trec": (4_952, 500),
    "wic": (5_428, 638),
}


def example(name: str, data: Path = Path("/data")) -> TaskFile:
    return load_task_file(FOLDER / f"{name}.yaml", variables={"SUPERPOS_DATA": str(data)})


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_judged_as_its_benchmark_judges_it(name: str) -> None:
    assert example(name).metrics == FIGURES.get(name, ("accuracy",))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_the_label_words_of_every_task_make_a_trie_on_the_embedded_backbone(embedded: Backbone, name: str) -> None:
    trie = embedded.label_trie(example(name).spec.label_words)
    # but for these, one step tells the labels apart
    assert trie.needs_one_step == (name not in {"stsb", "banking77"})


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"tickets", "messages"}))
@pytest.mark.slow
def test_every_task_loads_its_rows(name: str, data_dir: Path) -> None:
    task = example(name, data_dir)
    # the training rows of sst2 and multirc are many: their files' counts are enough for a test
    validation = read_examples(Path(str(task.data.validation)), task).examples
    assert len(validation) == ROWS[name][1]
    seen = {row.label for row in validation}
    assert seen == set(range(len(task.spec.labels)))
    if ROWS[name][0] < 9_000:
        assert len(read_examples(Path(str(task.data.train)), task).examples) == ROWS[name][0]


def test_the_messages_have_up_to_three_topics_and_each_is_in_at_least_forty() -> None:
    task = example("messages")
    rows = read_examples(Path(str(task.data.train)), task).examples
    assert Counter(len(row.labels) for row in rows) == {1: 64, 2: 47, 0: 8, 3: 6}
    counts = Counter(label for row in rows for label in row.labels)
    assert [counts[label] for label in range(4)] == [48, 45, 40, 43]


@pytest.mark.data
def test_the_answers_of_a_multirc_question_are_one_group(data_dir: Path) -> None:
    task = example("multirc", data_dir)
    rows = read_examples(Path(str(task.data.validation)), task).examples
    assert len({row.group for row in rows}) == 953
    questions: dict[str | None, set[str]] = {}
    for row in rows:
        questions.setdefault(row.group, set()).add(row.fields["question"])
    assert all(len(texts) == 1 for texts in questions.values())


@pytest.mark.data
def test_copa_shows_what_is_asked_for(data_dir: Path) -> None:
    task = example("copa", data_dir)
    texts = [row.text for row in read_examples(Path(str(task.data.validation)), task).examples]
    assert {text.rpartition(" question: ")[2] for text in texts} == {"cause", "effect"}


def test_stsb_has_t5s_26_scores() -> None:
    spec = example("stsb").spec
    assert spec.kind == "ordinal"
    assert spec.label_words == tuple(f"{n / 5:.1f}" for n in range(26))
