"""Comparison with one peer at a time, on the same questions, alternately."""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common.http_load import Call, ask, closed_loop
from benchmarks.common.load import Load
from benchmarks.common.schedule import percentile
from benchmarks.common.server_process import Question, Server, started, until_it_answers

PEER_CLIENTS = 64
"""Number of clients that fills the batches of peers."""
OUR_CLIENTS = (64, 32, 16)
SAMPLE = 200
SIDE_BY_SIDE = 20
MIN_AGREEMENT = 0.98


@dataclass(slots=True)
class Duel:
    """Loads of a peer and of Superpos, one per round; ours by number of clients."""

    peer: str
    agreement: float = 0.0
    """Share of a sample's labels that agree with ours."""
    theirs: list[Load] = field(default_factory=list)
    ours: dict[int, list[Load]] = field(default_factory=lambda: {clients: [] for clients in OUR_CLIENTS})

    @property
    def their_p99_s(self) -> float:
        return p99_s(self.theirs)

    @property
    def clients(self) -> int:
        """The largest number of clients at which our p99 is not worse than the peer's.

        The number with the highest rate would flatter, as the best of several noisy rates.
        """
        fit = [clients for clients, loads in self.ours.items() if p99_s(loads) <= self.their_p99_s]
        return max(fit, default=min(self.ours))

    @property
    def ratio(self) -> float:
        """Our rows/s ÷ the peer's, the median over rounds."""
        pairs = zip(self.ours[self.clients], self.theirs, strict=True)
        return statistics.median(ours.rows_per_s / theirs.rows_per_s for ours, theirs in pairs)

    @property
    def counts(self) -> bool:
        """Whether the peer did the same work completely."""
        return self.agreement >= MIN_AGREEMENT and not any(load.failures for load in self.theirs)


def steps_of_a_duel(rounds: int) -> int:
    """Return the number of progress reports of `duel`."""
    return 1 + rounds * (1 + len(OUR_CLIENTS))


def p99_s(loads: Sequence[Load]) -> float:
    """Return the 99th percentile of all rounds' latencies."""
    return percentile([latency for load in loads for latency in load.latencies], 99)


async def duel(
    peer: Server,
    ours: Server,
    url: str,
    questions: Sequence[Question],
    *,
    rounds: int,
    seconds: float,
    log: Path,
    done: Callable[[], None],
) -> Duel:
    """Start a peer, compare a sample's labels, then measure both alternately under load.

    Args:
        url: address of our running server
        questions: questions with one text each
    """
    result = Duel(peer.name)
    our_calls = [ours.call(url, question) for question in questions]
    with started(peer, log=log) as peer_url:
        their_calls = [peer.call(peer_url, question) for question in questions]
        await until_it_answers(peer_url, their_calls[0], log=log)
        result.agreement = await agreement((url, our_calls), (peer_url, their_calls))
        # warm up its threads and batches
        await closed_loop(peer_url, their_calls, clients=PEER_CLIENTS, seconds=seconds)
        done()
        for number in range(rounds):
            first = number * 997
            load = await closed_loop(peer_url, their_calls, clients=PEER_CLIENTS, seconds=seconds, first=first)
            result.theirs.append(load)
            done()
            for clients, loads in result.ours.items():
                loads.append(await closed_loop(url, our_calls, clients=clients, seconds=seconds, first=first))
                done()
    return result


async def agreement(*sides: tuple[str, Sequence[Call]]) -> float:
    """Return the share of a sample of single texts with the same label on both sides."""
    ours, theirs = [await labels(url, calls[:SAMPLE]) for url, calls in sides]
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    return sum(same) / len(same)


async def labels(url: str, calls: Sequence[Call]) -> list[str]:
    """Return the label of each single text, several requested concurrently."""
    found: list[str] = []
    for first in range(0, len(calls), SIDE_BY_SIDE):
        found += await asyncio.gather(*(label(url, call) for call in calls[first : first + SIDE_BY_SIDE]))
    return found


async def label(url: str, call: Call) -> str:
    """Return the label of a single text."""
    reply = await ask(url, call)
    answer: Mapping[str, list[Mapping[str, str]]] = reply.json()
    return answer["predictions"][0]["label"]
