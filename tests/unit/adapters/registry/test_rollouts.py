"""Promotion: a version becomes production if its card shows that it is no worse."""

import numpy as np
import pytest
from support.adapters import a_prompt, an_adapter

from adapters import Conflict, NotFound, PromotionRefused, Provenance, Registry, Traffic
from adapters.adapter import PromptAdapter
from adapters.exams import RIGHT, ROWS_SHA256, packed, paired_difference
from adapters.files import to_files
from adapters.registry.rollback import AliasMove
from adapters.registry.rollouts import Promotion, check_promotion, main_metric, promote

KEY = ("acme", "sst2")


def scored(
    metric: str | None = None, *, rows: str | None = "the same", right: str = "", **figures: float
) -> PromptAdapter:
    """An adapter with report metrics; `right` has one character per report row, `+` where the answer is right."""
    hyperparameters = {} if metric is None else {"metric": metric}
    data = {} if rows is None else {ROWS_SHA256: rows}
    if right:
        data[RIGHT] = packed(np.array([each == "+" for each in right]))
    provenance = Provenance(method="superpos", hyperparameters=hyperparameters, metrics=figures, data=data)
    return an_adapter(a_prompt(), provenance=provenance)


def refused(candidate: PromptAdapter, current: PromptAdapter | None, metric: str | None = None) -> PromotionRefused:
    with pytest.raises(PromotionRefused) as caught:
        check_promotion(candidate, current, metric=metric)
    return caught.value


def test_the_main_metric_is_the_one_that_training_went_by() -> None:
    assert main_metric(scored("macro_f1")) == "report_macro_f1"
    assert main_metric(scored()) == "report_accuracy"


def test_as_good_or_better_passes_and_worse_is_refused_with_both_values() -> None:
    current = scored(report_accuracy=0.91, report_loss=0.2)
    assert check_promotion(scored(report_accuracy=0.91), current).metric == "report_accuracy"
    assert check_promotion(scored(report_accuracy=0.95), current).metric == "report_accuracy"
    error = refused(scored(report_accuracy=0.9, report_loss=0.1), current)
    assert (error.metric, error.candidate, error.current) == ("report_accuracy", 0.9, 0.91)
    assert str(error) == (
        "report_accuracy: the version has 0.9, production 0.91; to promote it regardless, use --force "
        "(over HTTP, force: true)"
    )


def test_a_loss_is_better_where_it_is_lower() -> None:
    current = scored(report_loss=0.2, report_ece=0.05)
    assert check_promotion(scored(report_loss=0.1), current, metric="loss").metric == "report_loss"
    assert check_promotion(scored(report_ece=0.05), current, metric="report_ece").metric == "report_ece"
    assert refused(scored(report_loss=0.3), current, "report_loss").candidate == 0.3


def test_productions_metric_is_the_yardstick_not_one_that_the_candidate_chose() -> None:
    current = scored("macro_f1", report_macro_f1=0.8, report_accuracy=0.7)
    flattering = scored("accuracy", report_macro_f1=0.5, report_accuracy=0.9)
    assert refused(flattering, current).metric == "report_macro_f1"


def test_a_version_without_the_figure_is_refused_even_where_nothing_is_in_production() -> None:
    error = refused(scored(report_macro_f1=1.0), scored(report_accuracy=0.5))
    assert (error.metric, error.candidate, error.current) == ("report_accuracy", None, 0.5)
    assert "the version has none, production 0.5" in str(error)
    assert refused(scored(), None).current is None
    assert refused(scored(report_accuracy=0.9), scored(report_accuracy=0.5), "f2").metric == "report_f2"


def test_a_production_version_without_the_figure_holds_nobody_back() -> None:
    assert check_promotion(scored(report_accuracy=0.1), scored()).metric == "report_accuracy"
    assert check_promotion(scored(report_accuracy=0.1), None).metric == "report_accuracy"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("exam A", "exam B"), (None, "exam B"), ("exam A", None), (None, None)],
    ids=["of two exams", "candidate of none", "production of none", "both of none"],
)
def test_two_exams_are_not_compared_as_one(ours: str | None, theirs: str | None) -> None:
    """A better figure on easier rows says nothing; the refusal names what compares them, and what forces it."""
    error = refused(scored(rows=ours, report_accuracy=0.99), scored(rows=theirs, report_accuracy=0.6))
    for part in ("not known to be from the same rows", "superpos promote --rows TASK.yaml", "--force"):
        assert part in str(error)
    assert refused(scored(rows=ours, report_loss=0.1), scored(rows=theirs, report_loss=0.2), "loss").candidate == 0.1


def test_accuracies_on_one_exam_are_compared_row_by_row() -> None:
    production = scored(report_accuracy=0.8, right="+" * 80 + "-" * 20)
    slightly_worse = scored(report_accuracy=0.78, right="+" * 78 + "-" * 22)
    found = check_promotion(slightly_worse, production)
    assert found.in_words == "-0.020 on the same 100 rows, 95 % interval -0.058 to +0.019"
    error = refused(scored(report_accuracy=0.6, right="+" * 60 + "-" * 40), production)
    assert "95 % interval -0.278 to -0.114" in str(error)
    # another metric is compared by its value on those rows
    worse = scored("macro_f1", report_macro_f1=0.5, right="+" * 99 + "-")
    assert refused(worse, scored("macro_f1", report_macro_f1=0.6, right="-" * 100)).candidate == 0.5


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    """Of two classifiers with accuracies 0.80 and 0.76, on 200 rows that they share."""
    drawn, covered = np.random.default_rng(0), 0
    for _ in range(400):
        both = drawn.choice(4, size=200, p=[0.7, 0.1, 0.06, 0.14])  # both right, ours only, theirs only, none
        ours, theirs = (np.isin(both, kind) for kind in ((0, 1), (0, 2)))
        pair = [scored(right="".join("+" if each else "-" for each in right)) for right in (ours, theirs)]
        found = paired_difference(*pair)
        assert found is not None
        assert found.difference == pytest.approx(ours.mean() - theirs.mean())
        covered += found.low <= 0.04 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize("bits", ["", "9", "x:y", "3:!!!", "3:AAAA", "99999:AA==", "8:eJxjAAAAAQAB", "-1:eA=="])
def test_answers_that_cannot_be_read_are_not_compared(bits: str) -> None:
    """They come from whoever wrote the adapter's manifest."""
    good = scored(report_accuracy=0.5, right="+-+-")
    data = good.manifest.provenance.data | {RIGHT: bits}
    provenance = good.manifest.provenance.model_copy(update={"data": data})
    bad = type(good)(good.prompt, good.manifest.model_copy(update={"provenance": provenance}))
    assert paired_difference(bad, good) is None


@pytest.fixture
def released(registry: Registry) -> Registry:
    """A task with 0.9 in production, and then a worse, a better and an unmeasured version."""
    for accuracy in (0.9, 0.8, 0.95):
        first = accuracy == 0.9
        files = to_files(scored(report_accuracy=accuracy))
        registry.publish(*KEY, files, actor="test", aliases=None if first else ())
    registry.publish(*KEY, to_files(scored()), actor="test", aliases=())
    return registry


def test_a_better_version_takes_productions_place_and_ends_its_time_as_canary(released: Registry) -> None:
    released.set_traffic(*KEY, Traffic(canary=3, percent=20, shadow=2), actor="test")
    done = promote(released, *KEY, 3, actor="ann")
    assert done == Promotion(AliasMove("production", 1, 3), "report_accuracy")
    info = released.describe(*KEY)
    assert (info.aliases, info.traffic) == ({"production": 3}, Traffic(shadow=2))
    moved = next(change for change in released.changes() if change.kind == "alias_set" and change.version == 3)
    assert moved.actor == "ann"


def test_a_worse_or_unmeasured_version_takes_it_only_by_force(released: Registry) -> None:
    released.set_traffic(*KEY, Traffic(canary=3, percent=20, shadow=2), actor="test")
    for version in (2, 4):
        with pytest.raises(PromotionRefused):
            promote(released, *KEY, version, actor="test")
    assert released.describe(*KEY).aliases == {"production": 1}
    assert promote(released, *KEY, 2, actor="test", force=True) == Promotion(AliasMove("production", 1, 2), None)
    info = released.describe(*KEY)
    assert (info.aliases, info.traffic) == ({"production": 2}, Traffic(canary=3, percent=20))


def test_the_first_version_of_a_task_without_production_may_be_promoted(registry: Registry) -> None:
    registry.publish(*KEY, to_files(scored(report_accuracy=0.5)), actor="test", aliases=())
    assert promote(registry, *KEY, 1, actor="test").move == AliasMove("production", None, 1)


def test_a_version_that_is_not_there_is_not_promoted_by_force_either(released: Registry) -> None:
    for force in (False, True):
        with pytest.raises(NotFound, match="no sst2@9"):
            promote(released, *KEY, 9, actor="test", force=force)
    with pytest.raises(NotFound):
        promote(released, "acme", "trec", 1, actor="test")


def test_production_that_moved_since_it_was_compared_is_left_where_it_is(released: Registry) -> None:
    class Slow:
        """The registry, but somebody else is quicker."""

        def __getattr__(self, name: str) -> object:
            if name == "set_alias" and released.describe(*KEY).aliases["production"] == 1:
                released.set_alias(*KEY, "production", 4, actor="quicker")
            return getattr(released, name)

    with pytest.raises(Conflict, match="points at version 4, expected version 1"):
        promote(Slow(), *KEY, 3, actor="test")
    assert released.describe(*KEY).aliases == {"production": 4}
