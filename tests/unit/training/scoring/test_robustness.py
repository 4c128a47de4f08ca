"""Texts written otherwise: seeded, each in its own way, and nothing but the fields."""

import pytest

from adapters import TaskSpec
from training.data.examples import Example
from training.scoring.robustness import PERTURBATIONS, perturbed

SPEC = TaskSpec(template="text: {text}", labels={"a": "a", "b": "b"})
TEXT = "the quick brown fox jumps over the lazy dog again and again until the evening"
ROWS = tuple(Example(SPEC.render({"text": TEXT}), 1, "group", {"text": TEXT}) for _ in range(20))


@pytest.mark.parametrize("name", list(PERTURBATIONS))
def test_texts_change_by_the_seed_and_labels_groups_and_the_template_stay(name: str) -> None:
    once, again = perturbed(ROWS, name, spec=SPEC), perturbed(ROWS, name, spec=SPEC)
    assert once == again
    assert all(row.text.startswith("text: ") for row in once)
    assert all((row.label, row.group) == (1, "group") for row in once)
    assert sum(row.text != ROWS[0].text for row in once) >= 15
    if name != "upper case":
        assert perturbed(ROWS, name, spec=SPEC, seed=1) != once


def test_each_perturbation_does_what_its_name_says() -> None:
    changed = {name: [row.fields["text"] for row in perturbed(ROWS, name, spec=SPEC)] for name in PERTURBATIONS}
    assert all(sorted(text) == sorted(TEXT) for text in changed["letters swapped"])
    assert all(len(text) <= len(TEXT) for text in changed["letters dropped"])
    assert any(len(text) < len(TEXT) for text in changed["letters dropped"])
    assert any(len(text) > len(TEXT) for text in changed["letters doubled"])
    assert all(text.lower() == TEXT for text in changed["random case"] + changed["upper case"])
    assert changed["upper case"][0] == TEXT.upper()
    assert all(text.split() == TEXT.split() for text in changed["white space"])
