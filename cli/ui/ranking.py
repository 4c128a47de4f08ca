"""The ranking of adapters as starts of a task."""

from typing import TYPE_CHECKING

from rich.table import Table

from cli.console import print_table, status

if TYPE_CHECKING:
    from training.source_prompts.similar import Ranking


def print_ranking(ranking: "Ranking") -> None:
    """Print a ranking as a table, the best start first."""
    has_trials = ranking.own_score is not None
    table = Table("start", "method", "P", "mean cosine", "token cosine", "transferability")
    if has_trials:
        table.add_column(f"trial {ranking.metric}")
    for start in ranking.starts:
        trial = [] if start.trial_score is None else [f"{start.trial_score:.4f}"]
        similarities = (start.mean_similarity, start.token_similarity, start.transferability)
        table.add_row(
            start.name,
            start.method,
            str(start.num_virtual_tokens),
            *(f"{value:.3f}" for value in similarities),
            *trial,
        )
    if has_trials:
        table.add_section()
        table.add_row("none", "superpos", "", "", "", "", f"{ranking.own_score:.4f}")
    print_table(table)
    if ranking.num_left_out:
        status(f"{ranking.num_left_out} adapters are less similar and were not compared; --keep sets how many are")
