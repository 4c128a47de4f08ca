"""Claims of the paper, tested on a grid by differences of paired runs (same task, same seed)."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from training.paper.results import Results
from training.paper.variants import SWEPT_SIMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One variant less another, in points of the score, over the runs that both have."""

    claim: str
    first: str
    second: str
    by_task: dict[str, float]
    """Mean over the seeds."""
    num_runs: int
    num_ahead: int
    """Runs in which the first is ahead; a tie counts for neither."""
    num_behind: int

    @property
    def mean(self) -> float:
        """Over the tasks."""
        return statistics.fmean(self.by_task.values())

    @property
    def std(self) -> float:
        """Population standard deviation over the tasks."""
        return statistics.pstdev(self.by_task.values())

    @property
    def p_value(self) -> float:
        """How probable a mean so far from zero is, were each task's sign a coin's: two-sided, by every assignment.

        With n tasks it is 2^(1 − n) at the least: five tasks cannot go below 0.06.
        """
        return sign_flip_p_value(list(self.by_task.values()))


_CLAIMS = (
    ("SuperPos beats simple tuning at the paper's rate (Table 1)", "superpos", "simple"),
    ("SuperPos beats residual tuning (Table 1)", "superpos", "residual"),
    ("Without dropout SuperPos is better (Table 1)", "superpos", "superpos-dropout"),
    ("Without dropout residual tuning is better (Table 1)", "residual", "residual-dropout"),
    ("Without dropout simple tuning is better (Table 1)", "simple", "simple-dropout"),
    ("A softmax over p′ hurts (Table 3)", "superpos", "superpos-softmax"),
    ("A basis for each prompt vector beats one for all (ours: the paper says both)", "superpos", "superpos-shared"),
    ("m = 128 beats m = 8 (Figure 2c)", "superpos", "superpos-m8"),
    ("m = 256 is no better than m = 128 (Figure 2c)", "superpos", "superpos-m256"),
)


def differences(results: Results) -> list[Difference]:
    """Every claim that the results have paired runs for; simple tuning also at the rate that suits it best."""
    best = swept_best(results)
    claims = list(_CLAIMS)
    if best is not None and best != "simple":
        claims.insert(
            1, (f"SuperPos beats simple tuning at its best rate ({best}, by the selection rows)", "superpos", best)
        )
    return [found for claim, first, second in claims if (found := _difference(results, claim, first, second))]


def swept_best(results: Results) -> str | None:
    """The simple variant with the best mean score on the selection rows: report rows choose nothing."""
    scores: dict[str, list[float]] = {name: [] for name in SWEPT_SIMPLE}
    for cell in results.cells:
        scores.get(cell.variant, []).append(cell.selection["score"])
    largest = max(map(len, scores.values()), default=0)
    whole = {name: statistics.fmean(values) for name, values in scores.items() if values and len(values) == largest}
    return max(whole, key=lambda name: whole[name], default=None)


def sign_flip_p_value(values: Sequence[float]) -> float:
    """The exact two-sided p-value of Fisher's randomisation test on paired differences: 2^n sums, n ≤ 20."""
    observed = abs(sum(values)) - 1e-9  # sums of equal terms in another order are equal
    flipped = [abs(sum(signs)) for signs in itertools.product(*((value, -value) for value in values))]
    return sum(total >= observed for total in flipped) / len(flipped)


def _difference(results: Results, claim: str, first: str, second: str) -> Difference | None:
    points = list(_paired(results, first, second))
    if not points:
        return None
    tasks = dict.fromkeys(task for task, _ in points)
    return Difference(
        claim=claim,
        first=first,
        second=second,
        by_task={task: statistics.fmean(value for each, value in points if each == task) for task in tasks},
        num_runs=len(points),
        num_ahead=sum(value > 0 for _, value in points),
        num_behind=sum(value < 0 for _, value in points),
    )


def _paired(results: Results, first: str, second: str) -> Iterator[tuple[str, float]]:
    others = {(cell.task, cell.seed): cell.report["score"] for cell in results.cells if cell.variant == second}
    for cell in results.cells:
        if cell.variant == first and (cell.task, cell.seed) in others:
            yield cell.task, 100 * (cell.report["score"] - others[cell.task, cell.seed])
