"""Tables of a campaign's outcomes, the summary, and their JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from verification.attack.attack import Attack
from verification.attack.campaign import Outcome
from verification.attack.target import Store


@dataclass(frozen=True, slots=True)
class Combination:
    """One server under attack."""

    store: Store
    workers: int

    def __str__(self) -> str:
        return f"{self.store}, {self.workers} worker{'s' if self.workers > 1 else ''}"


def attack_table(attacks: Sequence[Attack]) -> Table:
    """Return a table of what the attacks do, and when they have succeeded."""
    table = Table("attack", "class", "by", "what it does", "it succeeds if", title=f"{len(attacks)} attacks")
    for attack in attacks:
        table.add_row(attack.name, attack.fault.value, attack.identity, attack.does, attack.succeeds)
    return table


def outcome_table(combination: Combination, outcomes: Sequence[Outcome]) -> Table:
    """Return a table of the outcomes on one server."""
    table = Table("attack", "class", "by", "result", title=f"{combination}: {summary(outcomes)}")
    for name in ("runs", "neighbour's p99", "× idle", "memory", "log"):
        table.add_column(name, justify="right")
    styles = {"held": "green", "succeeded": "bold red", "not judged": "yellow"}
    for outcome in outcomes:
        style = styles[outcome.result]
        table.add_row(
            outcome.attack.name,
            outcome.attack.fault.value,
            outcome.attack.identity,
            f"[{style}]{outcome.result}[/]",
            str(outcome.runs),
            "" if outcome.p99_ms is None else f"{outcome.p99_ms:.0f} ms",
            "" if outcome.ratio is None else f"{outcome.ratio:.1f}",
            f"{outcome.grown_bytes / 1e6:+.0f} MB",
            f"{outcome.logged_bytes / 1e3:.0f} KB",
        )
    return table


def print_evidence(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print why attacks succeeded, or could not be judged."""
    for outcome in outcomes:
        if outcome.result != "held":
            line = f"{outcome.attack.name} ({outcome.attack.identity}) {outcome.result}: {outcome.evidence}"
            console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the counts, and the neighbour's longest wait."""
    succeeded = sum(outcome.result == "succeeded" for outcome in outcomes)
    unjudged = sum(outcome.result == "not judged" for outcome in outcomes)
    text = f"{len(outcomes)} attacks, {succeeded} succeeded" + (f", {unjudged} not judged" if unjudged else "")
    worst = worst_wait(outcomes)
    if worst is None or worst.p99_ms is None or worst.ratio is None:
        return text
    return f"{text}; the neighbour waits at most {worst.p99_ms:.0f} ms, {worst.ratio:.1f} × idle ({worst.attack.name})"


def worst_wait(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Return the outcome with the neighbour's longest wait relative to an idle server."""
    measured = [outcome for outcome in outcomes if outcome.ratio is not None]
    return max(measured, key=lambda outcome: outcome.ratio or 0.0, default=None)


def record(combination: Combination, outcome: Outcome) -> dict[str, object]:
    """Return an outcome as JSON."""
    values = asdict(outcome)
    attack = outcome.attack
    values["attack"] = {"name": attack.name, "class": attack.fault.value, "identity": attack.identity}
    return {**asdict(combination), **values, "ratio": outcome.ratio}
