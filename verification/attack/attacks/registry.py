"""Attacks on the registry: growth outside quotas, non-atomic writes, background tasks that die."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from adapters.storage.redis import connect
from verification.attack.arena import MALLORY, TASK, Arena, Party, guess, wait_for
from verification.attack.attack import Attack, Evidence, Fault

LOG_ENTRIES = 200
"""Entries of a tenant that this server's settings keep in the change log."""
FLIPS = 1_500
AUDIT_ENTRIES = 15
"""Entries of a tenant and author that this server's settings keep in the audit log."""
ROTATIONS = 35
TRIMMED_WITHIN_S = 90.0
"""Seconds until a log must be trimmed, which happens once a minute."""


def _task(arena: Arena, versions: int) -> str:
    """Publish a new task of `versions` versions; production is the first."""
    task = f"rollout-{arena.number()}"
    for number in range(versions):
        aliases = None if number == 0 else [""]
        made = arena.publisher.upload(task, arena.make.small(seed=30_000 + arena.number()), aliases=aliases)
        assert made.status == 201, made
    return task


def many_aliases(arena: Arena) -> Evidence:
    """Name 900 aliases in one upload."""
    task = f"aliases-{arena.number()}"
    answer = arena.publisher.upload(
        task, arena.make.small(seed=31_000 + arena.number()), aliases=[f"a{number}" for number in range(900)]
    )
    return None if 400 <= answer.status < 500 else f"900 aliases: {answer}"


def aliases_one_by_one(arena: Arena) -> Evidence:
    """Make 300 aliases of one task, each in its own request."""
    task = _task(arena, 1)
    for number in range(300):
        answer = arena.publisher.send("PUT", f"/tasks/{task}/aliases/a{number}", json={"version": 1})
        if answer.status != 200:
            return None if 400 <= answer.status < 500 else f"alias {number}: {answer}"
    return "300 aliases of one task were made"


def flips(arena: Arena) -> Evidence:
    """Flip an alias between two versions, far more often than the log may remember."""
    task = _task(arena, 2)
    for number in range(FLIPS):
        answer = arena.publisher.send("PUT", f"/tasks/{task}/aliases/x", json={"version": 1 + number % 2})
        if answer.status != 200:
            return f"flip {number}: {answer}"
    return _untrimmed(arena, task)


def _untrimmed(arena: Arena, task: str) -> Evidence:
    """Return evidence unless most entries of a task's log are removed."""
    if wait_for(lambda: _entries(arena.publisher, task) <= 2 * LOG_ENTRIES, within_s=TRIMMED_WITHIN_S):
        return None
    return f"{FLIPS} changes have left {_entries(arena.publisher, task)} entries in the log"


def _entries(party: Party, task: str) -> int:
    """Return the number of entries of a task's log."""
    since, found, complete = 0, 0, False
    while not complete:
        part = party.get(f"/tasks/{task}/history?since={since}&limit=1000").json()
        since, complete = part["position"], part["complete"]
        found += len(part["entries"])
    return found


def traffic_flips(arena: Arena) -> Evidence:
    """Change a canary's share, far more often than the log may remember."""
    task = _task(arena, 2)
    for number in range(FLIPS):
        body = {"canary": 2, "percent": 1 + number % 50}
        answer = arena.publisher.send("PUT", f"/tasks/{task}/traffic", json=body)
        if answer.status >= 300:
            return f"change {number}: {answer}"
    return _untrimmed(arena, task)


def invented_tasks(arena: Arena) -> Evidence:
    """Ask for thousands of tasks that do not exist: usage and metrics must not keep their names."""
    for number in range(500):
        arena.tenant.classify(f"invented-{number}", "x")
        arena.tenant.send("BREW", f"/invented-{number}")
    usage, metrics = arena.tenant.get("/usage").text, arena.nobody.get("/metrics").text
    kept = [what for what, text in (("usage", usage), ("metrics", metrics)) if "invented-" in text or "BREW" in text]
    return f"{' and '.join(kept)} keep the names of tasks that do not exist" if kept else None


def audit_floods(arena: Arena) -> Evidence:
    """Send 300 wrong keys: the audit log must not grow by one entry each."""
    before = len(arena.audit())
    for _ in range(300):
        arena.nobody.get("/tasks", headers=guess())
    grown = len(arena.audit()) - before
    return f"300 refusals are {grown} entries of the audit log" if grown > 100 else None


def erased_trail(arena: Arena) -> Evidence:
    """Flood the audit log as an administrator and as a stranger: an operator's act must stay, the log be bounded."""
    spare = arena.new_key(MALLORY, "classify")
    arena.operator.send("PATCH", f"/admin/tenants/{MALLORY}", json={"weight": 1})
    acts = [entry for entry in arena.audit() if (entry["action"], entry["tenant"]) == ("tenant_updated", MALLORY)]
    rotations = 0
    for _ in range(ROTATIONS):
        answer = arena.admin.post(f"/admin/tenants/{MALLORY}/keys/{spare.key_id}/rotate", {"overlap_s": 0})
        rotations += answer.status == 200
        arena.tenant.get("/admin/tenants")
        arena.nobody.get("/tasks", headers=guess())
    if rotations <= 2 * AUDIT_ENTRIES:
        raise RuntimeError(f"{rotations} rotations were permitted, {2 * AUDIT_ENTRIES + 1} are needed to judge")

    def is_trimmed() -> bool:
        rotated = [entry for entry in arena.audit() if (entry["action"], entry["key"]) == ("key_rotated", spare.key_id)]
        return len(rotated) <= 2 * AUDIT_ENTRIES

    if not wait_for(is_trimmed, within_s=TRIMMED_WITHIN_S):
        return f"{rotations} rotations have left more than {2 * AUDIT_ENTRIES} entries in the audit log"
    kept = {entry["position"] for entry in arena.audit()}
    return None if acts[-1]["position"] in kept else "the operator's change is gone from the audit log"


def promote_and_traffic(arena: Arena) -> Evidence:
    """Promote a canary while its traffic is set again: the result must be that of one order or the other."""
    for _ in range(2):
        task = _task(arena, 3)
        arena.publisher.send("PUT", f"/tasks/{task}/traffic", json={"canary": 2, "percent": 10})
        statuses = _together(
            lambda task=task: arena.publisher.post(f"/tasks/{task}/promote", {"version": 2, "force": True}).status,
            lambda task=task: (
                arena.publisher.elsewhere()
                .send("PUT", f"/tasks/{task}/traffic", json={"canary": 3, "percent": 20})
                .status
            ),
        )
        time.sleep(arena.publisher.settles_s)
        traffic = arena.publisher.get(f"/tasks/{task}/traffic").json()
        if statuses == [200, 200] and traffic.get("canary") != 3:
            return f"traffic was set (200) and is lost after a promotion: {traffic}"
        production = arena.publisher.get(f"/tasks/{task}/aliases/production").json()["version"]
        if traffic.get("canary") == production:
            return f"version {production} is production and canary: {traffic}"
    return None


def rollbacks_together(arena: Arena) -> Evidence:
    """Roll back twice at the same time: production must move one step."""
    for _ in range(2):
        task = _task(arena, 3)
        for version in (2, 3):
            arena.publisher.send("PUT", f"/tasks/{task}/aliases/production", json={"version": version})
        arena.publisher.send("PUT", f"/tasks/{task}/traffic", json={"canary": 1, "percent": 10})
        statuses = _together(
            partial(_roll_back, arena.publisher, task, expected=3),
            partial(_roll_back, arena.publisher.elsewhere(), task, expected=3),
        )
        time.sleep(arena.publisher.settles_s)
        production = arena.publisher.get(f"/tasks/{task}/aliases/production").json()["version"]
        if production != 2 or any(status >= 500 for status in statuses):
            return f"two rollbacks {statuses} leave production at version {production}, expected 2"
        canary = arena.publisher.get(f"/tasks/{task}/traffic").json().get("canary")
        if canary is not None:
            return f"a rollback left the canary {canary} live"
    return None


def _roll_back(party: Party, task: str, *, expected: int) -> int:
    return party.post(f"/tasks/{task}/rollback", {"expected": expected}).status


def alias_races(arena: Arena) -> Evidence:
    """Move an alias twice under one tag: one of the two must be refused."""
    task = _task(arena, 3)
    for _ in range(4):
        arena.publisher.send("PUT", f"/tasks/{task}/aliases/x", json={"version": 1})
        time.sleep(arena.publisher.settles_s)
        tag = {"If-Match": arena.publisher.get(f"/tasks/{task}/aliases/x").headers["ETag"]}
        statuses = _together(
            partial(_move, arena.publisher, task, version=2, tag=tag),
            partial(_move, arena.publisher.elsewhere(), task, version=3, tag=tag),
        )
        if sorted(statuses) != [200, 412]:
            return f"two moves under one tag: {statuses}"
    return None


def _move(party: Party, task: str, *, version: int, tag: dict[str, str]) -> int:
    return party.send("PUT", f"/tasks/{task}/aliases/x", json={"version": version}, headers=tag).status


def quota_races(arena: Arena) -> Evidence:
    """Upload eight versions at once where one more is allowed."""
    publisher, tenant = arena.new_tenant(max_versions=2)
    publisher.upload(TASK, arena.make.small(seed=40_000))
    others = [arena.new_key(tenant, "publish") for _ in range(8)]
    uploads = [arena.make.small(seed=40_001 + arena.number()) for _ in others]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda pair: pair[0].upload(TASK, pair[1]).status, zip(others, uploads, strict=True)))
    stored = len(publisher.get(f"/tasks/{TASK}").json()["versions"])
    # one upload per server process may pass at the same time, as operations.md says
    return f"{stored} versions of 2 allowed: {statuses}" if stored > 2 + len(arena.target.processes) else None


def _together(*calls: Callable[[], int]) -> list[int]:
    barrier = threading.Barrier(len(calls))

    def call(each: Callable[[], int]) -> int:
        barrier.wait(10)
        return each()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def unknown_field(arena: Arena) -> Evidence:
    """Write a log entry with a field that this version does not know, as a newer server would."""
    task = _task(arena, 2)
    digest = arena.publisher.get(f"/tasks/{task}/versions/2").json()["adapter"]
    _log(arena, kind="alias_set", task=task, version=2, digest=digest, alias="newer", newer="x")
    return _follows(arena)


def _follows(arena: Arena) -> Evidence:
    """Return evidence unless every server process serves a version that is published now."""
    task = f"after-{arena.number()}"
    made = arena.publisher.upload(task, arena.make.small(seed=50_000 + arena.number()))
    if made.status != 201:
        return f"an upload afterwards: {made}"

    def served() -> bool:
        return all(arena.publisher.elsewhere().classify(task, "x").status == 200 for _ in range(8))

    return None if wait_for(served, within_s=15) else "what is published afterwards is not served by every process"


def _log(arena: Arena, **entry: str | int) -> None:
    """Append an entry to the change log, as a newer server would."""
    entry |= {"tenant": MALLORY, "actor": "newer"}
    now = datetime.now(UTC)
    if arena.target.store == "redis":
        store = connect(arena.target.registry)
        position = store.client.incr(store.key("position"))
        fields = {name: str(value) for name, value in entry.items()} | {"at": str(int(now.timestamp() * 1_000_000))}
        store.client.xadd(store.key("changes"), fields, id=f"{position}-0")
        return
    row = entry | {"at": now.isoformat()}
    with closing(sqlite3.connect(arena.target.registry, timeout=10)) as db, db:
        for name in row.keys() - {column[1] for column in db.execute("PRAGMA table_info(changes)")}:
            db.execute(f"ALTER TABLE changes ADD COLUMN {name} TEXT")
        places = ",".join("?" * len(row))
        db.execute(f"INSERT INTO changes ({','.join(row)}) VALUES ({places})", tuple(row.values()))


def unknown_kind(arena: Arena) -> Evidence:
    """Write a log entry of a kind that this version does not know."""
    _log(arena, kind="frozen", task=_task(arena, 1), version=1, digest="")
    return _follows(arena)


def outage(arena: Arena) -> Evidence:
    """Stop Redis for some seconds: every loop must continue afterwards."""
    with arena.target.without_redis():
        time.sleep(3)
    if not wait_for(lambda: arena.publisher.get(f"/tasks/{TASK}/history").status == 200, within_s=30):
        return "the registry is not read 30 s after its return"
    revoked = arena.new_key(MALLORY, "classify")
    arena.operator.send("DELETE", f"/admin/tenants/{MALLORY}/keys/{revoked.key_id}")
    refused = wait_for(lambda: all(revoked.elsewhere().get("/tasks").status == 401 for _ in range(6)), within_s=10)
    return _follows(arena) if refused else "a key that is revoked after an outage is accepted"


ATTACKS = (
    Attack(
        "900 aliases", Fault.GROWTH, "tenant", "names 900 aliases in one upload", "it is not refused", many_aliases
    ),
    Attack(
        "aliases one by one", Fault.GROWTH, "tenant", "makes 300 aliases of one task", "all are made",
        aliases_one_by_one, repeats=False,
    ),
    Attack(
        "alias flips", Fault.GROWTH, "tenant", f"flips an alias {FLIPS} times",
        f"the log keeps more than {2 * LOG_ENTRIES} entries, its limit is {LOG_ENTRIES}", flips,
        is_long=True, repeats=False,
    ),
    Attack(
        "traffic flips", Fault.GROWTH, "tenant", f"changes a canary's share {FLIPS} times",
        f"the log keeps more than {2 * LOG_ENTRIES} entries, its limit is {LOG_ENTRIES}", traffic_flips,
        is_long=True, repeats=False,
    ),
    Attack(
        "invented tasks", Fault.GROWTH, "tenant", "asks for 500 tasks and methods that do not exist",
        "usage or metrics keep their names", invented_tasks,
    ),
    Attack(
        "floods of the audit log", Fault.GROWTH, "nobody", "sends 300 wrong keys",
        "the audit log grows by more than 100 entries", audit_floods,
    ),
    Attack(
        "an erased trail", Fault.GROWTH, "admin", "floods the audit log by rotations and refusals",
        f"an operator's act is gone from it, or it keeps more than {2 * AUDIT_ENTRIES} rotations", erased_trail,
        is_long=True, repeats=False,
    ),
    Attack(
        "promotion and traffic", Fault.WRITES, "tenant", "promotes a canary and sets its traffic at the same time",
        "an acknowledged write is lost", promote_and_traffic,
    ),
    Attack(
        "two rollbacks", Fault.WRITES, "tenant", "rolls back twice at the same time",
        "production goes back two steps, or a canary stays", rollbacks_together,
    ),
    Attack("two moves", Fault.WRITES, "tenant", "moves an alias twice under one tag", "both succeed", alias_races),
    Attack(
        "uploads at once", Fault.WRITES, "tenant", "uploads eight versions at once where one is allowed",
        "more are stored than operations.md says", quota_races, repeats=False,
    ),
    Attack(
        "an unknown field", Fault.LOOPS, "nobody", "writes a log entry with an unknown field, as a newer server would",
        "what is published afterwards is not served", unknown_field, repeats=False,
    ),
    Attack(
        "an unknown kind", Fault.LOOPS, "nobody", "writes a log entry of an unknown kind",
        "what is published afterwards is not served", unknown_kind, repeats=False,
    ),
    Attack(
        "an outage", Fault.LOOPS, "nobody", "stops Redis for some seconds",
        "what is published or revoked afterwards is not followed", outage, repeats=False, is_long=True, store="redis",
    ),
)  # fmt: skip
