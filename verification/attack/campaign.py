"""A campaign: attacks one after another on one server, with what is watched during each."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from verification.attack.arena import Arena, wait_for
from verification.attack.attack import Attack, Evidence
from verification.attack.neighbour import Neighbour, Sample, p99_s

MAX_GROWTH_BYTES = 600 << 20
"""Memory that a server may gain during one attack; the first rows of new lengths fill the kernels' caches."""
MAX_LOG_BYTES = 1 << 20
"""Bytes that a server may log during one run of an attack."""
LIVE_WITHIN_S = 45.0
"""Seconds within which the server must answer a new client after an attack, once deadlines have freed connections."""
MAX_SECONDS = 60.0
"""Longest time for which an attack is repeated to measure the neighbour."""
_MAX_MEASUREMENTS = 3
_IDLE_WINDOWS = 4
_PAUSE_S = 0.5
_IDLE_AGE_S = 30.0
"""Age at which the last window of the idle server is too old to compare with."""

Result = Literal["held", "succeeded", "not judged"]


@dataclass(frozen=True, slots=True)
class Measure:
    """How the neighbour is measured, and what it may suffer."""

    samples: int
    """Number of the neighbour's requests during an attack after which its wait is judged."""
    limit: float
    """The largest ratio of its p99 during an attack to that of an idle server."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of an attack."""

    attack: Attack
    result: Result
    evidence: str
    """Why it succeeded or could not be judged; empty if it was held."""
    runs: int
    seconds: float
    samples: int
    """The neighbour's requests during the attack."""
    p99_ms: float | None
    """The neighbour's; None if it was not measured."""
    idle_ms: float | None
    """The same without an attack."""
    grown_bytes: int
    """Growth of the server's memory."""
    logged_bytes: int

    @property
    def ratio(self) -> float | None:
        """How many times longer the neighbour waits than on an idle server."""
        return None if self.p99_ms is None or not self.idle_ms else self.p99_ms / self.idle_ms


class Campaign:
    """Runs attacks on one server, and judges each by its own evidence and by what every attack is watched for."""

    def __init__(self, arena: Arena, neighbour: Neighbour | None = None, measure: Measure | None = None) -> None:
        """Start with idle measurements of the neighbour, if there is one."""
        self._arena, self._neighbour, self._measure = arena, neighbour, measure
        self._idle_at = -_IDLE_AGE_S
        self._idle: deque[Sample] = deque(maxlen=_IDLE_WINDOWS * (measure.samples if measure else 0))
        for _ in range(_IDLE_WINDOWS):
            self._measure_idle(force=True)

    def run(
        self, attacks: Iterable[Attack], *, on_outcome: Callable[[Outcome], None] = lambda _: None
    ) -> list[Outcome]:
        """Run the attacks that concern this server's store."""
        outcomes = []
        for attack in attacks:
            if attack.store in (None, self._arena.target.store):
                outcomes.append(self._attack(attack))
                on_outcome(outcomes[-1])
        return outcomes

    def _attack(self, attack: Attack) -> Outcome:
        """Run one attack; one that slows the neighbour down is repeated, since a real slowdown repeats."""
        outcome = self._once(attack)
        for _ in range(_MAX_MEASUREMENTS - 1):
            if not self._is_slow(outcome) or outcome.result != "held":
                break
            outcome = self._once(attack)
        if outcome.result == "held" and self._is_slow(outcome):
            waits = f"the neighbour waits {outcome.p99_ms:.0f} ms, {outcome.ratio:.1f} × as long as on an idle server"
            return replace(outcome, result="succeeded", evidence=waits)
        return outcome

    def _is_slow(self, outcome: Outcome) -> bool:
        return self._measure is not None and outcome.ratio is not None and outcome.ratio > self._measure.limit

    def _once(self, attack: Attack) -> Outcome:
        self._measure_idle()
        target = self._arena.target
        memory, logged, processes = target.resident_bytes, target.log.size_bytes, target.processes
        started, runs = time.monotonic(), 0
        evidence: Evidence = None
        result: Result = "held"
        try:
            while evidence is None and (runs == 0 or self._continues(attack, started)):
                evidence = attack.run(self._arena)
                runs += 1
        except Exception as exc:  # noqa: BLE001 - an attack that cannot be judged must not hide the others
            evidence, result = f"{type(exc).__name__}: {exc}", "not judged"
        ended = time.monotonic()
        grown, logged = target.resident_bytes - memory, target.log.size_bytes - logged
        samples = self._samples(started, ended)
        if evidence is None:
            restarted = processes is not target.processes
            evidence = self._watched(attack, 0 if restarted else grown, logged // max(1, runs), samples)
        if evidence is not None and result == "held":
            result = "succeeded"
        enough = self._measure is not None and len(samples) >= self._measure.samples and not attack.disturbs
        return Outcome(
            attack=attack,
            result=result,
            evidence=evidence or "",
            runs=runs,
            seconds=ended - started,
            samples=len(samples),
            p99_ms=1e3 * p99_s(samples) if enough else None,
            idle_ms=1e3 * p99_s(list(self._idle)) if enough else None,
            grown_bytes=grown,
            logged_bytes=logged,
        )

    def _watched(self, attack: Attack, grown: int, logged: int, samples: list[Sample]) -> Evidence:
        """Return which general rule was broken: a dead or silent server, memory, a long log, or a refused neighbour."""
        if not self._arena.target.is_alive:
            return "a process of the server ended"
        if not wait_for(lambda: self._arena.answers(within_s=10), within_s=LIVE_WITHIN_S):
            return f"the server does not answer within {LIVE_WITHIN_S:g} s"
        if grown > MAX_GROWTH_BYTES:
            return f"the server grew by {grown >> 20} MB"
        if logged > MAX_LOG_BYTES:
            return f"each run writes {logged >> 10} KB of log"
        refused = [sample.status for sample in samples if sample.status != 200]
        if refused and not attack.disturbs:
            return f"{len(refused)} of {len(samples)} requests of the neighbour failed: {sorted(set(refused))}"
        return None

    def _continues(self, attack: Attack, started: float) -> bool:
        if self._neighbour is None or self._measure is None or not attack.repeats:
            return False
        is_enough = len(self._neighbour.since(started)) >= self._measure.samples
        return not is_enough and time.monotonic() < started + MAX_SECONDS

    def _samples(self, started: float, ended: float) -> list[Sample]:
        """Return the neighbour's requests that were due during an attack, once they have ended."""
        if self._neighbour is None:
            return []
        due = int((ended - started) * self._neighbour.rate) - 1
        return [each for each in self._neighbour.wait(due, started=started, within_s=60) if each.due <= ended]

    def _measure_idle(self, *, force: bool = False) -> None:
        """Measure the neighbour without an attack, unless that was done a moment ago.

        The last windows together are what an attack is compared with.
        """
        if self._neighbour is None or self._measure is None:
            return
        time.sleep(_PAUSE_S)  # the last attack's work ends
        if force or time.monotonic() >= self._idle_at + _IDLE_AGE_S:
            self._idle.extend(self._neighbour.wait(self._measure.samples, started=time.monotonic(), within_s=60))
            self._idle_at = time.monotonic()
