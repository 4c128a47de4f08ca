"""Builds the components of kept answers and corrections."""

from collections.abc import Callable
from dataclasses import dataclass

from adapters.storage.opening import Storage
from service.catalog.build import RegistryGroup
from service.feedback.answers import AnswerBuffer, Outcome
from service.feedback.feedback import Feedback
from service.feedback.retention import Retentions, RetentionSweeper
from service.feedback.rows import open_feedback
from service.settings import Settings
from service.tenancy.account_cache import AccountCache


@dataclass(frozen=True, slots=True)
class FeedbackGroup:
    """Kept answers and corrections."""

    feedback: Feedback
    retentions: Retentions
    answers: AnswerBuffer
    sweeper: RetentionSweeper


def build_feedback(
    settings: Settings,
    storage: Storage,
    registry: RegistryGroup,
    account_cache: AccountCache,
    *,
    count: Callable[[Outcome, int], None],
) -> FeedbackGroup:
    """Build the components over one store; none runs yet.

    Args:
        settings: limits of texts and bytes
        storage: where rows are kept
        registry: the tasks, with their labels and fields
        account_cache: which tenants have opted in
        count: receives numbers of rows by outcome

    Raises:
        RegistryUnavailable: a file's tables cannot be created
    """
    rows = open_feedback(storage)
    retentions = Retentions(account_cache.tenant, max_bytes=settings.max_feedback_bytes)
    answers = AnswerBuffer(rows, retentions, count=count)
    return FeedbackGroup(
        feedback=Feedback(
            rows,
            answers,
            retentions,
            registry.catalog,
            registry.adapters,
            max_text_chars=settings.max_text_chars,
            count=count,
        ),
        retentions=retentions,
        answers=answers,
        sweeper=RetentionSweeper(rows, retentions, on_expired=lambda rows: count("expired", rows)),
    )
