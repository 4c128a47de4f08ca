"""The judges of the attacks can fail: a fault of each kind is planted in a server, and they must report it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.server import running_servers
from support.tenancy import ADMIN_KEY

import service.api.json_response
import service.pieces
import service.tenancy.accounts
from adapters import Ref, strict_json
from adapters.registry.sqlite import SqliteRegistry
from backbone import Backbone
from service.api import problems
from service.inference.result_cache import CacheKey
from service.jobs.queue import JobQueue
from service.jobs.sqlite_store import SqliteJobs
from service.tenancy import audit
from service.tenancy.accounts import Accounts
from service.tenancy.principal import Principal
from verification.attack import campaign
from verification.attack.adapters import Maker
from verification.attack.arena import TASK, Arena
from verification.attack.attack import Attack, Fault
from verification.attack.attacks import ATTACKS, cost, registry
from verification.attack.campaign import Campaign, Measure
from verification.attack.neighbour import neighbour
from verification.attack.target import Log, Target

Patch = pytest.MonkeyPatch
NAMED = {attack.name: attack for attack in ATTACKS}


@pytest.fixture(scope="module")
def arena(tiny_t5: Path, tiny: Backbone, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    folder, scratch = (tmp_path_factory.mktemp(name) for name in ("attacked", "scratch"))
    with pytest.MonkeyPatch.context() as patch, running_servers(tiny_t5, folder, cache_dir) as start:
        patch.setattr("service.log_trimmer._INTERVAL_S", 0.1)
        patch.setattr(registry, "TRIMMED_WITHIN_S", 1.0)
        server = start(
            require_keys=True,
            admin_key=ADMIN_KEY,
            bundled=False,
            result_cache_bytes=1 << 20,
            max_audit_entries=registry.AUDIT_ENTRIES,
        )
        target = Target(server.url, ADMIN_KEY, str(server.settings.registry), folder, Log(), [psutil.Process()])
        yield Arena.prepare(target, Maker.of(tiny), scratch)


def plant_a_shared_cache(patch: Patch) -> None:
    """Leave the tenant out of the key of the result cache."""
    of = CacheKey.of
    patch.setattr(CacheKey, "of", lambda tenant, digest, text, **more: of("", digest, text, **more))


def plant_files_by_digest(patch: Patch) -> None:
    """Return the files of any version of the same digest."""

    def by_digest(self: SqliteRegistry, tenant: str, task: str, version: int) -> dict[str, bytes]:
        return self.get(self.resolve(tenant, Ref(task, version=version)).digest)

    patch.setattr(SqliteRegistry, "files", by_digest)


def plant_roots(patch: Patch) -> None:
    """Let every administrator manage every tenant."""
    patch.setattr(Principal, "manages", lambda self, tenant: True)


def plant_missing_roles(patch: Patch) -> None:
    """Forget to check roles."""
    patch.setattr(Principal, "require", lambda self, role: None)


def plant_endless_errors(patch: Patch) -> None:
    """Look at every wrong item, and report each."""
    for check in ("check_count", "check_size"):
        patch.setattr(strict_json, check, lambda value, **_: None)
    patch.setattr(problems, "_MAX_ERRORS", 1 << 20)


def plant_a_bug(patch: Patch) -> None:
    """Divide by zero where a ref is read."""
    patch.setattr(Ref, "parse", lambda text: 1 / 0)


def plant_escapes(patch: Patch) -> None:
    """Accept notes of any characters."""
    patch.setattr(service.tenancy.accounts, "is_printable", lambda text, **_: True)


def plant_keys_that_stay(patch: Patch) -> None:
    """Acknowledge a revocation without doing it."""
    patch.setattr(Accounts, "revoke_key", lambda self, *_, **__: None)


def plant_blind_writes(patch: Patch) -> None:
    """Move aliases whatever they point at."""
    move = SqliteRegistry.set_alias
    patch.setattr(
        SqliteRegistry, "set_alias", lambda self, *names, **more: move(self, *names, **{**more, "expected": None})
    )


def plant_one_author(patch: Patch) -> None:
    """Bound the audit log as a whole, whoever wrote an entry."""
    patch.setattr(audit, "author", lambda entry: "operators")


def plant_an_endless_trail(patch: Patch) -> None:
    """Never trim the audit log."""
    patch.setattr(Accounts, "trim_audit", lambda self, *, keep: 0)


def plant_answers_in_one_go(patch: Patch) -> None:
    """Compute and write every answer in one piece: 0.14 s on a fast machine, which is less than the judge's floor."""
    patch.setattr(cost, "MAX_STALL_S", 0.05)
    for module in (service.pieces, service.api.json_response):
        patch.setattr(module, "PIECE_VALUES", 1 << 40)


def plant_jobs_of_everybody(patch: Patch) -> None:
    """Find a job by its id alone."""
    patch.setattr(
        SqliteJobs,
        "job",
        lambda self, tenant, job_id: next((job for job in self.unfinished() if job.id == job_id), None),
    )


def plant_jobs_without_end(patch: Patch) -> None:
    """Queue any number of jobs."""
    submit = JobQueue.submit
    patch.setattr(JobQueue, "submit", lambda self, job, rows, **_: submit(self, job, rows, max_jobs=1_000))


@pytest.mark.parametrize(
    ("plant", "attack", "complaint"),
    [
        (plant_a_shared_cache, "cached answers", "the victim has asked"),
        (plant_files_by_digest, "replaced files", "is not what was uploaded"),
        (plant_roots, "keys of other tenants", "/admin/tenants/victim/keys: 201"),
        (plant_missing_roles, "every route", "with a classify key"),
        (plant_endless_errors, "gzipped wrong items", "the refusal"),
        (plant_a_bug, "odd paths", "500"),
        (plant_escapes, "notes that act", "was accepted"),
        (plant_keys_that_stay, "a revoked key rotated", "a revoked key was rotated"),
        (plant_blind_writes, "two moves", "[200, 200]"),
        (plant_one_author, "an erased trail", "the operator's change is gone"),
        (plant_answers_in_one_go, "large answers", "other clients waited"),
        (plant_an_endless_trail, "an erased trail", "more than 30 entries"),
        (plant_jobs_of_everybody, "another's training jobs", "GET of another tenant's job"),
        (plant_jobs_without_end, "jobs beyond the limit", "8 jobs are queued"),
    ],
    ids=lambda value: value.__name__.removeprefix("plant_") if callable(value) else "",
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("one_thread")
def test_a_planted_fault_is_reported_as_a_success_of_its_attack(
    plant: Callable[[Patch], None], attack: str, complaint: str, arena: Arena, monkeypatch: Patch
) -> None:
    attacks = Campaign(arena)
    assert [each.result for each in attacks.run([NAMED[attack]])] == ["held"]
    plant(monkeypatch)
    for _ in range(3):  # a judge that compares waits may acquit on a machine whose usual wait is as long
        [outcome] = attacks.run([NAMED[attack]])
        if outcome.result == "succeeded":
            break
    assert outcome.result == "succeeded"
    assert complaint in outcome.evidence


@pytest.mark.usefixtures("one_thread")
def test_a_neighbour_that_waits_is_reported(arena: Arena, monkeypatch: Patch) -> None:
    monkeypatch.setattr(campaign, "_MAX_MEASUREMENTS", 2)
    check = strict_json.check_size

    def stand_still(value: object, **limits: int) -> None:
        if isinstance(value, dict) and "unknown" in value:
            time.sleep(2)
        check(value, **limits)

    stalls = Attack(
        "a stall", Fault.VALIDATION, "tenant", "", "",
        lambda arena: arena.tenant.post(f"/classify/{TASK}", {"inputs": "x", "unknown": 1}) and None,
    )  # fmt: skip
    with neighbour(arena.target.url, TASK, arena.victim.key, rate=40) as beside:
        # a round of the event loop answers two of them, and each round has a stall
        measured = Campaign(arena, beside, Measure(samples=4, limit=10))
        assert [each.result for each in measured.run([stalls])] == ["held"]
        monkeypatch.setattr(strict_json, "check_size", stand_still)
        [outcome] = measured.run([stalls])
    assert outcome.result == "succeeded"
    assert "the neighbour waits" in outcome.evidence
    assert outcome.ratio is not None
    assert outcome.ratio > 10


def test_an_attack_that_cannot_be_judged_does_not_pass(arena: Arena) -> None:
    def fails(_: Arena) -> None:
        raise KeyError("predictions")

    [outcome] = Campaign(arena).run([Attack("x", Fault.CACHE, "tenant", "", "", fails)])
    assert (outcome.result, outcome.evidence) == ("not judged", "KeyError: 'predictions'")
