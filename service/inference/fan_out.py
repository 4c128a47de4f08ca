"""One request for several tasks, each of which is answered or refused separately. Independent of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.inference.classifier import Classifier
from service.inference.predictions import Classification
from service.inference.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class Part:
    """Outcome of one ref: an answer or a refusal."""

    ref: str
    answer: Classification | None
    refusal: Exception | None


async def fan_out(classifier: Classifier, refs: Sequence[str], request: InferenceRequest) -> list[Part]:
    """Classify by all refs at once, so that their rows share batches; parts are in the order of the refs.

    Args:
        classifier: answers each ref
        refs: refs as the caller wrote them
        request: the items, which are the same for all refs

    Raises:
        AdapterError, BackboneError, ServiceError: the first ref's error, if no ref was answered
    """
    outcomes = await classifier.classify_by_several(refs, request)
    first = outcomes[0]
    if isinstance(first, Exception) and all(isinstance(outcome, Exception) for outcome in outcomes):
        raise first
    return [
        Part(ref, None, outcome) if isinstance(outcome, Exception) else Part(ref, outcome, None)
        for ref, outcome in zip(refs, outcomes, strict=True)
    ]


def answers_of(parts: Sequence[Part]) -> list[Classification]:
    """Return the answers of all refs, or raise the first refusal: for callers that need all or none."""
    answers = []
    for part in parts:
        if part.answer is None:
            assert part.refusal is not None
            raise part.refusal
        answers.append(part.answer)
    return answers
