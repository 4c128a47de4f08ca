"""Seeded perturbations of texts: typos, case and white space."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from adapters.task import TaskSpec
from training.data.examples import Example

Perturbation = Callable[[str, random.Random], str]

_TYPO_SHARE = 0.05
"""The share of letters with a typo."""


def perturbed(examples: Sequence[Example], name: str, *, spec: TaskSpec, seed: int = 0) -> tuple[Example, ...]:
    """Perturb each field of the rows; the words of the template, labels and groups are unchanged."""
    drawn = random.Random(f"{seed} {name}")
    changed = []
    for example in examples:
        fields = {field: PERTURBATIONS[name](value, drawn) for field, value in example.fields.items()}
        changed.append(replace(example, text=spec.render(fields), fields=fields))
    return tuple(changed)


def _typos(text: str, drawn: random.Random, typo: Callable[[str, str], str]) -> str:
    """Replace a letter and its neighbour by `typo` of both, at a random share of places."""
    letters, place = [], 0
    while place < len(text):
        pair = text[place : place + 2]
        if len(pair) == 2 and pair.isalpha() and drawn.random() < _TYPO_SHARE:
            letters.append(typo(pair[0], pair[1]))
            place += 2
        else:
            letters.append(text[place])
            place += 1
    return "".join(letters)


def _swapped(text: str, drawn: random.Random) -> str:
    return _typos(text, drawn, lambda first, second: second + first)


def _dropped(text: str, drawn: random.Random) -> str:
    return _typos(text, drawn, lambda first, second: first)


def _doubled(text: str, drawn: random.Random) -> str:
    return _typos(text, drawn, lambda first, second: first + first + second)


def _random_case(text: str, drawn: random.Random) -> str:
    return "".join(letter.swapcase() if drawn.random() < 0.5 else letter for letter in text)


def _spaced(text: str, drawn: random.Random) -> str:
    return "".join(letter + "  " * (letter == " " and drawn.random() < 0.5) for letter in f"  {text} ")


PERTURBATIONS: Mapping[str, Perturbation] = {
    "letters swapped": _swapped,
    "letters dropped": _dropped,
    "letters doubled": _doubled,
    "random case": _random_case,
    "upper case": lambda text, drawn: text.upper(),
    "white space": _spaced,
}
