"""All attacks. Each module has those of related classes; they run in the order of `ATTACKS`."""

from verification.attack.attack import Attack
from verification.attack.attacks import (
    accounts,
    bodies,
    connections,
    content,
    cost,
    errors,
    feedback,
    jobs,
    registry,
    text,
)

ATTACKS: tuple[Attack, ...] = (
    *bodies.ATTACKS,
    *errors.ATTACKS,
    *text.ATTACKS,
    *accounts.ATTACKS,
    *content.ATTACKS,
    *registry.ATTACKS,
    *feedback.ATTACKS,
    *jobs.ATTACKS,
    *cost.ATTACKS,
    *connections.ATTACKS,
)
assert len({attack.name for attack in ATTACKS}) == len(ATTACKS), "two attacks have the same name"
