"""Training jobs: made by hand, and as requests."""

from adapters.task import TaskSpec
from service.jobs.models import Job

SENTIMENT = TaskSpec.model_validate(
    {"template": "sentence: {text}", "labels": {"negative": "negative", "positive": "positive"}, "max_tokens": 32}
)
FINGERPRINT = "sha256:" + "0" * 64


def make_job(number: int = 1, *, tenant: str = "acme", task: str = "sst2", fingerprint: str = FINGERPRINT) -> Job:
    """A job that was submitted at the second of its number."""
    return Job(
        id=f"{number:024x}",
        tenant=tenant,
        task=task,
        actor="key:k1",
        created_at=float(number),
        spec=SENTIMENT,
        fingerprint=fingerprint,
        num_rows=3,
        max_s=60.0,
    )


def labelled(number: int) -> list[dict[str, str]]:
    """Rows that a small backbone learns, half of each label."""
    films = {"positive": "a gripping film", "negative": "flat and overlong"}
    return [
        {"input": f"{films[label]} {index}", "label": label} for index in range(number // 2) for label in sorted(films)
    ]
