"""Attack a real server as a hostile tenant, as a tenant's administrator and as a client without a key.

- `python -m verification.attack`: every attack on four servers with the embedded backbone
- `python -m verification.attack --workers 1 --only links --only "wide trie"`: some of them
- `python -m verification.attack --list`: what each attack does, and when it has succeeded

The program starts `superpos serve` once per combination of a store (SQLite, Redis) and a number of workers, with keys
and few file descriptors. It creates a victim and an attacker with keys of every role, and runs all attacks. Meanwhile a
separate process sends the victim's light, steady traffic and measures it. The victim's p99 during an attack may be at
most `--limit` times its p99 on the idle server; it is judged once `--samples` requests have been answered. An attack
that slows the victim down is repeated up to twice, since a real slowdown repeats.

During every attack the server must stay alive, answer a new client and the victim, grow by less than 600 MB, and log
less than 1 MB per run. Each attack also has a judge of its own. An attack that succeeds prints its evidence; one that
cannot be judged counts as a failure. The exit status is 0 only if no attack succeeded and all were judged.

To add an attack, write a function in `verification/attack/attacks/` and register it at the end of its module. A test
plants faults in a server and requires the judges to report them.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backbone import load
from benchmarks.common.report import machine
from service.settings import default_cache_dir
from verification.attack.adapters import Maker
from verification.attack.arena import TASK, Arena
from verification.attack.attack import Attack
from verification.attack.attacks import ATTACKS
from verification.attack.attacks.connections import ACCOUNTS_AGE_S
from verification.attack.attacks.registry import AUDIT_ENTRIES, LOG_ENTRIES
from verification.attack.campaign import Campaign, Measure, Outcome
from verification.attack.neighbour import neighbour
from verification.attack.report import Combination, attack_table, outcome_table, print_evidence, record, summary
from verification.attack.target import Store, served

NEIGHBOURS_RATE = 10.0
"""Requests per second of the victim."""
SETTINGS = {
    "SUPERPOS_RESULT_CACHE_BYTES": str(4 << 20),
    "SUPERPOS_ACCOUNTS_MAX_AGE_S": f"{ACCOUNTS_AGE_S:g}",
    "SUPERPOS_MAX_LOG_ENTRIES": str(LOG_ENTRIES),
    # attacks on keys are repeated while the victim is measured, and one that is refused by this limit proves nothing
    "SUPERPOS_MAX_KEY_CHANGES_PER_HOUR": "1000000",
    "SUPERPOS_MAX_AUDIT_ENTRIES": str(AUDIT_ENTRIES),
}
"""Settings that differ from the defaults: optional features are on, and limits are reached sooner."""

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)


def attack_server(
    combination: Combination, backbone: str, make: Maker, attacks: Sequence[Attack], measure: Measure | None
) -> list[Outcome]:
    """Start a server, run the attacks, and return the outcomes.

    Args:
        combination: the server's store and number of workers
        backbone: as in SUPERPOS_BACKBONE
        make: makes adapters for this backbone
        attacks: the attacks, in their order
        measure: how the neighbour is measured; None for one run of each attack without a neighbour
    """
    with ExitStack() as stack:
        folder, scratch = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2))
        target = stack.enter_context(
            served(backbone, store=combination.store, workers=combination.workers, folder=folder, settings=SETTINGS)
        )
        arena = Arena.prepare(target, make, scratch)
        beside = None
        if measure is not None:
            beside = stack.enter_context(neighbour(target.url, TASK, arena.victim.key, rate=NEIGHBOURS_RATE))
        campaign = Campaign(arena, beside, measure)
        return campaign.run(attacks, on_outcome=lambda outcome: print_evidence(console, [outcome]))


@app.command(help=__doc__)
def main(
    *,
    store: Annotated[list[str] | None, typer.Option(help="sqlite or redis; repeatable. (default: both)")] = None,
    workers: Annotated[list[int] | None, typer.Option(help="Server processes; repeatable. (default: 1 and 2)")] = None,
    backbone: Annotated[str, typer.Option(help="Backbone of the server, as in SUPERPOS_BACKBONE.")] = "embedded",
    only: Annotated[
        list[str] | None, typer.Option(help="Only attacks with this text in their name or class; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip attacks that wait for deadlines or compute for a long time.")
    ] = False,
    samples: Annotated[
        int,
        typer.Option(min=0, help="Requests of the victim after which its p99 is judged; 0 turns the measurement off."),
    ] = 50,
    limit: Annotated[
        float,
        typer.Option(
            min=1, help="Largest accepted ratio of the victim's p99 under attack to its p99 on the idle server."
        ),
    ] = 3.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every outcome to this JSON file.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the attacks and exit.")] = False,
) -> None:
    attacks = [attack for attack in ATTACKS if not (quick and attack.is_long) and _is_meant(attack, only)]
    if not attacks:
        raise typer.BadParameter(f"no attack has {', '.join(only or ())} in its name or class; --list shows all")
    if show:
        Console().print(attack_table(attacks))
        return
    measure = Measure(samples, limit) if samples else None
    make = Maker.of(load(backbone, cache_dir=default_cache_dir()))
    outcomes: list[Outcome] = []
    records: list[dict[str, object]] = []
    for combination in [
        Combination(_store(name), n) for name in store or ("sqlite", "redis") for n in workers or (1, 2)
    ]:
        found = attack_server(combination, backbone, make, attacks, measure)
        console.print(outcome_table(combination, found))
        outcomes += found
        records += [record(combination, outcome) for outcome in found]
    print_evidence(console, outcomes)
    if json_file is not None:
        detail = {"backbone": backbone, "samples": samples, "limit": limit, "machine": machine(), "outcomes": records}
        json_file.write_text(json.dumps(detail, indent=1), encoding="utf-8")
    print(summary(outcomes))
    raise typer.Exit(0 if all(outcome.result == "held" for outcome in outcomes) else 1)


def _store(name: str) -> Store:
    if name not in ("sqlite", "redis"):
        raise typer.BadParameter(f"store is {name!r}, expected sqlite or redis")
    return name  # type: ignore[return-value]


def _is_meant(attack: Attack, only: Sequence[str] | None) -> bool:
    return not only or any(text in attack.name or text in attack.fault.value for text in only)


if __name__ == "__main__":
    app()
