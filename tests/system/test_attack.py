"""No attack of `verification/attack` succeeds: the short form, on a tiny model and without figures of time."""

from pathlib import Path

import pytest

from backbone import Backbone
from verification.attack.__main__ import attack_server
from verification.attack.adapters import Maker
from verification.attack.attack import Attack, Fault
from verification.attack.attacks import ATTACKS
from verification.attack.campaign import Outcome
from verification.attack.report import Combination, summary

CHEAP = [attack for attack in ATTACKS if not attack.is_long]
OF_SEVERAL_PROCESSES = {
    Fault.CONTENT, Fault.CACHE, Fault.WRITES, Fault.LOOPS, Fault.TOMBSTONES, Fault.REFUSED
}  # fmt: skip
"""Classes whose faults differ between stores and numbers of workers."""


def broken(outcomes: list[Outcome]) -> list[str]:
    return [f"{each.attack.name}: {each.result}: {each.evidence}" for each in outcomes if each.result != "held"]


@pytest.mark.parametrize(
    ("combination", "attacks"),
    [
        pytest.param(Combination("sqlite", 1), CHEAP, id="sqlite"),
        pytest.param(
            Combination("redis", 2), [each for each in CHEAP if each.fault in OF_SEVERAL_PROCESSES], id="redis"
        ),
    ],
)
def test_no_attack_succeeds(combination: Combination, attacks: list[Attack], tiny_t5: Path, tiny: Backbone) -> None:
    outcomes = attack_server(combination, str(tiny_t5), Maker.of(tiny), attacks, None)
    assert broken(outcomes) == []
    assert summary(outcomes) == f"{len(attacks)} attacks, 0 succeeded"


def test_every_class_of_fault_is_attacked_several_times_and_by_everybody() -> None:
    for fault in Fault:
        assert len([attack for attack in ATTACKS if attack.fault is fault]) >= 2, fault
    assert {attack.identity for attack in ATTACKS} == {"nobody", "tenant", "admin"}
