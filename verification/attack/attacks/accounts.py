"""Attacks on roles, keys, tenants, file permissions, and the traceability of callers."""

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.secret_files import make_secrets
from verification.attack.arena import MALLORY, TASK, VICTIM, Answer, Arena, Party, filled, guess, wait_for
from verification.attack.attack import Attack, Evidence, Fault, first

AUDITED_WITHIN_S = 80.0
"""Seconds until the audit log must have an entry about refusals, which is written once a minute."""
Request = tuple[str, str, object]


def _denied(party: Party, requests: Sequence[Request]) -> Evidence:
    """Return the first request that is not refused as evidence."""
    return first(_unless_denied(party.send(method, path, json=body), method, path) for method, path, body in requests)


def _unless_denied(answer: Answer, method: str, path: str) -> Evidence:
    return None if answer.status in (401, 403, 404) else f"{method} {path}: {answer}"


def other_tenants_keys(arena: Arena) -> Evidence:
    requests = [
        ("POST", f"/admin/tenants/{tenant}/keys", {"role": role})
        for tenant in (VICTIM, "default")
        for role in ("classify", "publish", "admin")
    ]
    return _denied(arena.admin, [*requests, ("GET", f"/admin/tenants/{VICTIM}/keys", None)])


def operators_key(arena: Arena) -> Evidence:
    spare = arena.new_key("default", "operator")  # what an attack that succeeds revokes
    spare_path = f"/admin/tenants/default/keys/{spare.key_id}"
    evidence = _denied(arena.admin, [("POST", f"{spare_path}/rotate", {"overlap_s": 0}), ("DELETE", spare_path, None)])
    own = f"/admin/tenants/{MALLORY}/keys/{spare.key_id}"  # the same id under the attacker's tenant
    evidence = evidence or _denied(arena.admin, [("POST", f"{own}/rotate", {"overlap_s": 0}), ("DELETE", own, None)])
    arena.operator.send("DELETE", spare_path)
    return evidence


def other_tenants(arena: Arena) -> Evidence:
    name = f"made-{arena.number()}"
    requests: list[Request] = [
        ("POST", "/admin/tenants", {"id": name}),
        ("PATCH", f"/admin/tenants/{VICTIM}", {"suspended": True}),
        ("PATCH", f"/admin/tenants/{VICTIM}", {"requests_per_s": 0.001}),
        ("GET", f"/admin/tenants/{VICTIM}", None),
        ("DELETE", "/admin/tenants/other-tenant", None),
        ("DELETE", f"/admin/tenants/{MALLORY}", None),
        ("GET", "/admin/audit/tasks", None),
    ]
    evidence = _denied(arena.admin, requests[:-1])
    seen = arena.admin.get("/admin/audit/tasks?limit=1000")
    if evidence is None and seen.status == 200 and VICTIM in seen.text:
        evidence = "GET /admin/audit/tasks shows the victim's tasks"
    seen = arena.admin.get("/admin/audit?limit=1000")
    if evidence is None and seen.status == 200 and VICTIM in seen.text:
        evidence = "GET /admin/audit shows the victim's keys"
    arena.operator.send("PATCH", f"/admin/tenants/{VICTIM}", json={"suspended": False, "requests_per_s": None})
    return evidence


def own_limits(arena: Arena) -> Evidence:
    changes: list[Request] = [
        ("PATCH", f"/admin/tenants/{MALLORY}", change)
        for change in ({"weight": 100}, {"tokens_per_min": None}, {"max_bytes": None}, {"suspended": False})
    ]
    evidence = _denied(arena.admin, changes)
    arena.operator.send("PATCH", f"/admin/tenants/{MALLORY}", json={"weight": 1, "tokens_per_min": 1_000_000_000})
    return evidence


def raised_role(arena: Arena) -> Evidence:
    path = f"/admin/tenants/{MALLORY}/keys"
    roles = ("operator", "root", "Admin", "admin ", ["operator"], {"role": "operator"})
    for party in (arena.tenant, arena.publisher, arena.admin):
        for role in roles:
            made = party.post(path, {"role": role})
            if made.status < 300:
                return f"a key of role {role!r} was made: {made}"
    lower = [("POST", path, {"role": role}) for role in ("classify", "admin")]
    return _denied(arena.tenant, lower) or _denied(arena.publisher, lower)


def tenants_in_parameters(arena: Arena) -> Evidence:
    for party in (arena.tenant, arena.publisher, arena.admin):
        for path in (f"/usage?tenant={VICTIM}", f"/tasks?tenant={VICTIM}", f"/classify/{VICTIM}:{TASK}"):
            answer = party.get(path)
            if answer.status == 200:
                return f"GET {path}: {answer}"
        spoofed = party.get("/tasks", headers={"X-Superpos-Tenant": VICTIM})
        if spoofed.status == 200:
            return "the header X-Superpos-Tenant is ignored or believed"
    return None


def every_route(arena: Arena) -> Evidence:
    """Send each route of the document without a key, with a wrong one, and with a key of the next lower role."""
    for method, path in _routes(arena):
        keyed = not _is_open(path)
        if keyed and arena.nobody.send(method, path).status != 401:
            return f"{method} {path} is answered without a key"
        wrong = arena.nobody.send(method, path, headers=guess())
        if keyed and wrong.status != 401:
            return f"{method} {path} with a wrong key: {wrong}"
        is_write = method != "GET" and "/classify" not in path and "infer" not in path and "predict" not in path
        if keyed and is_write and path.startswith(("/tasks", "/admin")):
            answer = arena.tenant.send(method, path)
            if answer.status != 403:
                return f"{method} {path} with a classify key: {answer}"
        if path.startswith("/admin") and arena.publisher.send(method, path).status != 403:
            return f"{method} {path} is answered to a publish key"
    return None


def _routes(arena: Arena) -> Iterator[tuple[str, str]]:
    for method, path, _ in arena.operations():
        yield method, filled(path, tenant=VICTIM)


def _is_open(path: str) -> bool:
    return (
        path in ("/", "/metrics", "/health", "/v2")
        or path.startswith(("/healthz", "/v2/health"))
        or (path.startswith("/tei/") and path.endswith("/health"))
    )


def revived_first_key(arena: Arena) -> Evidence:
    """Revoke the key of the settings, then restart the server with the same settings."""
    first_key = Party(arena.target.url, key=arena.target.admin_key)
    arena.operator.send("DELETE", f"/admin/tenants/default/keys/{first_key.key_id}")
    arena.target.restart()
    answer = first_key.get("/admin/tenants")
    return None if answer.status == 401 else f"the revoked key after a restart: {answer}"


def revived_secrets(arena: Arena) -> Evidence:
    """Use a revoked key, a rotated secret and a deleted tenant's key after a restart."""
    revoked, rotated = (arena.new_key(MALLORY, "classify") for _ in range(2))
    other, tenant = arena.new_tenant()
    arena.operator.send("DELETE", f"/admin/tenants/{MALLORY}/keys/{revoked.key_id}")
    arena.operator.post(f"/admin/tenants/{MALLORY}/keys/{rotated.key_id}/rotate", {"overlap_s": 0})
    arena.operator.send("DELETE", f"/admin/tenants/{tenant}")
    again = arena.operator.post("/admin/tenants", {"id": tenant})
    arena.target.restart()
    for what, party in (("revoked key", revoked), ("rotated secret", rotated), ("deleted tenant's key", other)):
        answer = party.get("/tasks")
        if answer.status != 401:
            return f"a {what} after a restart: {answer}"
    return None if again.status == 409 else f"a deleted tenant's name was given away: {again}"


def recreated_key(arena: Arena) -> Evidence:
    """Revoke a key by two administrators at once, rotate what is revoked, and use it."""
    revoked = arena.new_key(MALLORY, "publish")
    path = f"/admin/tenants/{MALLORY}/keys/{revoked.key_id}"
    arena.operator.send("DELETE", path)
    again = arena.admin.post(f"{path}/rotate", {"overlap_s": 60})
    if again.status < 400:
        return f"a revoked key was rotated: {again}"
    answer = revoked.get("/tasks")
    return None if answer.status == 401 else f"a revoked key: {answer}"


def guessed_keys(arena: Arena) -> Evidence:
    """Guess keys; the log must name the address."""
    request_id = f"guess-{secrets.token_hex(6)}"
    for number in range(30):
        arena.nobody.get("/tasks", headers=guess() | {"X-Request-ID": f"{request_id}-{number}"})
    return _untraced(arena, f"{request_id}-0")


def forbidden_requests(arena: Arena) -> Evidence:
    """Try routes above a key's role; the log must name key and address."""
    request_id = f"forbidden-{secrets.token_hex(6)}"
    for _ in range(30):
        arena.tenant.send("DELETE", f"/tasks/{TASK}/versions/1", headers={"X-Request-ID": request_id})
    return _untraced(arena, request_id, arena.tenant.key_id)


def unaudited(arena: Arena) -> Evidence:
    """Guess keys and try what the role does not permit, until the audit log must have counted both."""
    for _ in range(30):
        arena.nobody.get("/tasks", headers=guess())
        arena.tenant.send("DELETE", f"/tasks/{TASK}/versions/1")

    def audited() -> bool:
        found = str(arena.audit())
        return "unauthenticated" in found and "forbidden" in found and "127.0.0.1" in found

    is_audited = wait_for(audited, within_s=AUDITED_WITHIN_S)
    return None if is_audited else f"the audit log has no refusals after {AUDITED_WITHIN_S:g} s"


def _untraced(arena: Arena, request_id: str, *words: str) -> Evidence:
    wait_for(lambda: bool(arena.target.log.of_request(request_id)), within_s=5)
    entries = str(arena.target.log.of_request(request_id))
    missing = [word for word in ("127.0.0.1", *words) if word not in entries]
    return f"the log lacks {', '.join(missing)}: {entries[:300]}" if missing else None


def forged_address(arena: Arena) -> Evidence:
    """Name another address, as a proxy would, without being a trusted one."""
    request_id = f"forged-{secrets.token_hex(6)}"
    forged = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}
    arena.nobody.get("/tasks", headers={**forged, "X-Request-ID": request_id})
    entries = str(arena.target.log.of_request(request_id))
    if "203.0.113.7" in entries:
        return f"the log believes it: {entries[:300]}"
    return _untraced(arena, request_id)


def ambiguous_requests(arena: Arena) -> Evidence:
    """Send requests that are refused before anything else is read; the log must name the address."""
    for line, fields in (
        ("POST /tasks HTTP/1.1", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("GET http:///tasks HTTP/1.1", ""),
        ("GET http://user@host/tasks HTTP/1.1", ""),
    ):
        request_id = f"ambiguous-{secrets.token_hex(6)}"
        head = f"{line}\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n{fields}\r\n"
        arena.raw(head.encode() + (b"0\r\n\r\n" if fields else b""))
        if evidence := _untraced(arena, request_id):
            return f"{line}: {evidence}"
    return None


def open_files(arena: Arena) -> Evidence:
    """Look for files of the server that other users of the machine can read."""
    places = [arena.target.folder / "registry.sqlite", *arena.target.folder.glob("registry.sqlite*")]
    places += [arena.target.folder / "redis", *(arena.target.folder / "redis").rglob("*")]
    return first(_open(path) for path in places if path.exists())


def _open(path: Path) -> Evidence:
    mode = stat.S_IMODE(path.stat().st_mode)
    return f"{path.name} has mode {mode:04o}, expected no access for others" if mode & 0o077 else None


def open_secrets(arena: Arena) -> Evidence:
    """Make secrets in a folder that exists already, open to everyone."""
    folder = arena.scratch / f"secrets-{arena.number()}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        make_secrets(folder)
    except (OSError, ValueError, SystemExit, RuntimeError):
        return None
    mode = stat.S_IMODE(folder.stat().st_mode)
    return f"the folder of secrets has mode {mode:04o}" if mode & 0o077 else None


def open_archive(arena: Arena) -> Evidence:
    """Copy a registry under a permissive umask, and check the modes of the files."""
    mask = os.umask(0o000)
    try:
        target = arena.scratch / f"copy-{arena.number()}.sqlite"
        done = arena.cli("registry", "copy", arena.target.registry, str(target))
    finally:
        os.umask(mask)
    if done.returncode:
        return None  # a registry in use may be refused
    return first(_open(path) for path in target.parent.glob(f"{target.name}*"))


def key_in_processes(arena: Arena) -> Evidence:
    """Look for keys and passwords in the arguments of the platform's processes."""
    for process in arena.target.processes:
        words = " ".join(process.cmdline())
        if arena.target.admin_key in words or "redis://:" in words:
            return f"process {process.pid} shows a secret in its arguments"
    shown = arena.cli("key", "create", "--help").stdout
    return None if "SUPERPOS_API_KEY" in shown else "the command's help names no other way than --key"


_ROOT = "it is not refused with 401, 403 or 404"

ATTACKS = (
    Attack(
        "keys of other tenants", Fault.ROLES, "admin", "makes and lists keys of other tenants", _ROOT,
        other_tenants_keys,
    ),
    Attack(
        "the operator's key", Fault.ROLES, "admin", "rotates and revokes an operator's key, under either tenant",
        _ROOT, operators_key,
    ),
    Attack(
        "other tenants", Fault.ROLES, "admin",
        "creates, reads, suspends, limits and deletes tenants, reads their audit",
        _ROOT + ", or shows another tenant", other_tenants,
    ),
    Attack("its own limits", Fault.ROLES, "admin", "raises the weight and limits of its tenant", _ROOT, own_limits),
    Attack(
        "a higher role", Fault.ROLES, "admin", "makes keys of the role operator, or of a role in another spelling",
        "a key is made", raised_role,
    ),
    Attack(
        "another tenant by parameter", Fault.ROLES, "admin", "names the victim in parameters and headers",
        "it is answered", tenants_in_parameters,
    ),
    Attack(
        "every route", Fault.ROLES, "tenant", "calls every route without a key, with a wrong one and with a lower role",
        "it is not 401 or 403", every_route,
    ),
    Attack(
        "the first key revived", Fault.TOMBSTONES, "admin", "uses the revoked key of the settings after a restart",
        "it is not 401", revived_first_key, repeats=False, is_long=True, disturbs=True,
    ),
    Attack(
        "secrets revived", Fault.TOMBSTONES, "tenant",
        "uses a revoked key, a rotated secret and a deleted tenant's key after a restart, and takes its name",
        "it is not 401, or the name is free", revived_secrets, repeats=False, is_long=True, disturbs=True,
    ),
    Attack(
        "a revoked key rotated", Fault.TOMBSTONES, "admin", "rotates a revoked key and uses it",
        "it is not refused", recreated_key,
    ),
    Attack(
        "guessed keys", Fault.TRACES, "nobody", "guesses keys",
        "the log lacks its address", guessed_keys,
    ),
    Attack(
        "forbidden requests", Fault.TRACES, "tenant", "tries what its role does not permit",
        "the log lacks its address or key id", forbidden_requests,
    ),
    Attack(
        "unaudited refusals", Fault.TRACES, "tenant", "guesses keys and tries what its role does not permit",
        f"the audit log has not counted it after {AUDITED_WITHIN_S:g} s", unaudited, repeats=False, is_long=True,
    ),
    Attack(
        "a forged address", Fault.TRACES, "nobody", "states another client address in proxies' headers",
        "the log believes it", forged_address,
    ),
    Attack(
        "ambiguous requests", Fault.TRACES, "nobody", "sends requests that no route sees",
        "the log lacks its address", ambiguous_requests,
    ),
    Attack(
        "open files", Fault.PERMISSIONS, "nobody", "reads the registry's files as another user of the machine",
        "their mode permits it", open_files, repeats=False,
    ),
    Attack(
        "open secrets", Fault.PERMISSIONS, "nobody", "waits for secrets in a folder that was open before",
        "it stays open", open_secrets, repeats=False,
    ),
    Attack(
        "an open copy", Fault.PERMISSIONS, "nobody", "reads a copy of the registry, made under the umask 000",
        "its mode permits it", open_archive, repeats=False, is_long=True,
    ),
    Attack(
        "keys in ps", Fault.PERMISSIONS, "nobody", "reads the arguments of the platform's processes",
        "they hold a secret, or the command needs --key", key_in_processes, repeats=False, is_long=True,
    ),
)  # fmt: skip
