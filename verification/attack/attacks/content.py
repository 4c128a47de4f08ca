"""Attacks on shared state: content addresses, the result cache, links in published folders."""

import os
import shutil
from pathlib import Path
from subprocess import TimeoutExpired

from adapters.files import CARD, CONFIG, to_files, write_folder
from verification.attack.arena import MALLORY, TASK, Arena
from verification.attack.attack import Attack, Evidence, Fault, first


def _pair(arena: Arena) -> tuple[str, dict[str, bytes], dict[str, bytes]]:
    """Return a new task's name, and the files of one adapter with the victim's card and with the attacker's."""
    number = arena.number()
    adapter = arena.make.small(seed=1_000 + number)
    theirs = to_files(adapter, card=f"# the victim's card {number}\n")
    ours = to_files(adapter, card=f"# the attacker's card {number}\n")
    ours[CONFIG] = ours[CONFIG].replace(b'"inference_mode": true', b'"inference_mode": false')
    return f"shared-{number}", theirs, ours


def _differs(found: dict[str, bytes], uploaded: dict[str, bytes], whose: str) -> Evidence:
    names = [name for name in {**found, **uploaded} if found.get(name) != uploaded.get(name)]
    return (
        f"{whose} download of {', '.join(names)} is not what was uploaded: {found.get(names[0])!r}" if names else None
    )


def _either_differs(
    arena: Arena, task: str, theirs: dict[str, bytes], version: int, ours: dict[str, bytes]
) -> Evidence:
    return _differs(arena.victim.files(task, 1), theirs, "the victim's") or _differs(
        arena.publisher.files(task, version), ours, "the attacker's"
    )


def replaced_files(arena: Arena) -> Evidence:
    task, theirs, ours = _pair(arena)
    arena.victim.upload(task, theirs)
    version = arena.publisher.upload(task, ours).json()["version"]
    return _either_differs(arena, task, theirs, version, ours)


def squatted_files(arena: Arena) -> Evidence:
    """Publish an adapter's prompt and manifest before the victim does."""
    task, theirs, ours = _pair(arena)
    version = arena.publisher.upload(task, ours).json()["version"]
    arena.victim.upload(task, theirs)
    return _either_differs(arena, task, theirs, version, ours)


def deleted_files(arena: Arena) -> Evidence:
    """Delete a version that shares its files with the victim's."""
    task, theirs, _ = _pair(arena)
    arena.victim.upload(task, theirs)
    arena.publisher.upload(task, theirs, aliases=[""])
    arena.publisher.send("DELETE", f"/tasks/{task}/versions/1")
    evidence = _differs(arena.victim.files(task, 1), theirs, "the victim's")
    answer = arena.victim.classify(task, "a gripping film")
    return evidence or (None if answer.status == 200 else f"the victim's task: {answer}")


def used_up_quota(arena: Arena) -> Evidence:
    """Publish a tenant's adapter with a megabyte of card, so that its own upload exceeds its quota."""
    victim, _ = arena.new_tenant(max_bytes=400_000)
    task, theirs, ours = _pair(arena)
    arena.publisher.upload(task, ours | {CARD: b"x" * 1_000_000})
    answer = victim.upload(task, theirs)
    return None if answer.status == 201 else f"the victim's upload within its quota: {answer}"


def known_digest(arena: Arena) -> Evidence:
    """Name the victim's adapter by its digest."""
    task, theirs, _ = _pair(arena)
    digest = arena.victim.upload(task, theirs).json()["adapter"]
    arena.publisher.upload(task, arena.make.small(seed=77))
    requests = (
        arena.tenant.classify(f"{TASK}@{digest}", "x"),
        arena.tenant.classify(f"{task}@{digest}", "x"),
        arena.tenant.get(f"/v1/models/{task}@{digest}"),
    )
    return first(f"the victim's digest: {answer}" for answer in requests if answer.status != 404)


def cached_answer(arena: Arena) -> Evidence:
    """Send what the victim has sent to the same adapter."""
    task, theirs, _ = _pair(arena)
    arena.victim.upload(task, theirs)
    arena.publisher.upload(task, theirs)
    text = f"a text of the victim {arena.number()}"
    for _ in range(4):  # each worker has a cache of its own
        arena.victim.classify(task, text)
    for _ in range(4):
        answer = arena.tenant.classify(task, text)
        if answer.json()["predictions"][0]["cached"]:
            return f"the attacker learns that the victim has asked: {answer}"
        text += " "
    return None


def cached_by_other_means(arena: Arena) -> Evidence:
    """Ask with another truncation, number of labels and API: each answer must belong to its own request."""
    text = f"a film {arena.number()}"
    plain = arena.tenant.classify(TASK, text).json()["predictions"][0]
    one = arena.tenant.classify(TASK, text, top_k=1).json()["predictions"][0]
    if len(plain["scores"]) == len(one["scores"]):
        return f"top_k is not in the cache's key: {one}"
    long = "a gripping film " * 400
    cut = [arena.tenant.classify(TASK, long, truncate=side).json() for side in ("end", "start")]
    refused = arena.tenant.classify(TASK, long)
    if refused.status != 422:
        return f"a text that is too long is answered from the cache: {refused}"
    return None if all("predictions" in each for each in cut) else f"truncation failed: {cut}"


def foreign_names(arena: Arena) -> Evidence:
    """Compare the answers about the victim's tasks with those about tasks that do not exist."""
    task, theirs, _ = _pair(arena)
    arena.victim.upload(task, theirs)
    nothing = task[:-1] + "z"
    for path in (
        "/tasks/{}",
        "/tasks/{}/versions/1",
        "/tasks/{}/aliases/production",
        "/tasks/{}/history",
        "/v2/models/{}",
    ):
        found, missing = (arena.publisher.get(path.format(name)) for name in (task, nothing))
        if (
            found.status != missing.status
            or found.text.replace(task, nothing).partition("request_id")[0] != (missing.text.partition("request_id")[0])
        ):
            return f"{path} differs between a foreign task and a missing one: {found} and {missing}"
    conditional = arena.publisher.get(f"/tasks/{task}/versions/1", headers={"If-None-Match": "*"})
    return None if conditional.status == 404 else f"a conditional read: {conditional}"


SECRET = b"a secret of the machine\n"


def _downloaded(arena: Arena) -> tuple[Path, Path]:
    """Return a valid adapter's folder, as a stranger could offer it, and a file outside of it."""
    number = arena.number()
    secret = arena.scratch / f"secret-{number}"
    secret.write_bytes(SECRET)
    folder = arena.scratch / f"downloaded-{number}"
    write_folder(folder, to_files(arena.make.small(seed=2_000 + number), card="# a card\n"))
    return folder, secret


def _leaks(arena: Arena, task: str, *command: str) -> Evidence:
    """Return whether a command that publishes a folder reveals the secret, or hangs."""
    key = arena.new_key(MALLORY, "publish").key
    try:
        arena.cli(*command, key=key, timeout_s=20)
    except TimeoutExpired:
        return f"superpos {' '.join(command)} hangs"
    if arena.publisher.get(f"/tasks/{task}").status == 404:
        return None
    if any(SECRET in data for data in arena.publisher.files(task, 1).values()):
        return f"superpos {command[0]} has published the file behind a link"
    return None


def linked_card(arena: Arena) -> Evidence:
    folder, secret = _downloaded(arena)
    (folder / CARD).unlink()
    (folder / CARD).symlink_to(secret)
    tasks = {word: f"linked-{arena.number()}" for word in ("push", "import")}
    return first(_leaks(arena, task, word, str(folder), task) for word, task in tasks.items())


def linked_folder(arena: Arena) -> Evidence:
    folder, secret = _downloaded(arena)
    elsewhere = arena.scratch / f"elsewhere-{arena.number()}"
    shutil.move(folder, elsewhere)
    (elsewhere / CARD).write_bytes(secret.read_bytes())
    folder.mkdir()
    (folder / "adapter").symlink_to(elsewhere, target_is_directory=True)
    task = f"linked-{arena.number()}"
    return _leaks(arena, task, "push", str(folder), task)


def pipe_and_device(arena: Arena) -> Evidence:
    """Offer a folder whose card is a pipe without a writer, or an endless device."""
    for make in (os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")):
        folder, _ = _downloaded(arena)
        (folder / CARD).unlink()
        make(folder / CARD)
        task = f"pipe-{arena.number()}"
        if evidence := _leaks(arena, task, "push", str(folder), task):
            return evidence
    return None


def linked_archive(arena: Arena) -> Evidence:
    """Offer a backup folder in which a file of a version is a link."""
    number = arena.number()
    source, copied = (arena.scratch / f"{name}-{number}.sqlite" for name in ("from", "to"))
    backup = arena.scratch / f"backup-{number}"
    folder, secret = _downloaded(arena)
    arena.cli("push", str(folder), "linked", "--to", str(source))
    arena.cli("registry", "copy", str(source), str(backup))
    cards = list(backup.rglob(CARD))
    if not cards:
        return f"the backup has no {CARD}: {sorted(path.name for path in backup.rglob('*'))}"
    cards[0].unlink()
    cards[0].symlink_to(secret)
    arena.cli("registry", "copy", str(backup), str(copied))
    is_there = copied.exists() and SECRET in copied.read_bytes()
    return "superpos registry copy has published the file behind a link" if is_there else None


ATTACKS = (
    Attack(
        "replaced files", Fault.CONTENT, "tenant",
        "publishes the victim's prompt and manifest with another card and PEFT configuration",
        "either downloads what it did not upload", replaced_files,
    ),
    Attack(
        "squatted files", Fault.CONTENT, "tenant", "does so before the victim publishes",
        "either downloads what it did not upload", squatted_files,
    ),
    Attack(
        "deleted files", Fault.CONTENT, "tenant", "deletes a version that shares its files with the victim's",
        "the victim's version is gone", deleted_files,
    ),
    Attack(
        "used-up quota", Fault.CONTENT, "tenant", "publishes a tenant's adapter with a megabyte of card",
        "the tenant's own upload exceeds its quota", used_up_quota,
    ),
    Attack(
        "a known digest", Fault.CONTENT, "tenant", "names the victim's adapter by digest", "it is not 404", known_digest
    ),
    Attack(
        "cached answers", Fault.CACHE, "tenant", "sends what the victim has sent to the same adapter",
        "the answer is `cached`", cached_answer,
    ),
    Attack(
        "answers to other requests", Fault.CACHE, "tenant", "sends the same text with another truncation and top_k",
        "it gets the answer to the first request", cached_by_other_means,
    ),
    Attack(
        "foreign names", Fault.CACHE, "tenant", "asks about the victim's tasks and about tasks that do not exist",
        "the answers differ", foreign_names,
    ),
    Attack(
        "a linked card", Fault.LINKS, "nobody", "offers an adapter whose card is a link to a file of the machine",
        "push or import publishes that file", linked_card, repeats=False, is_long=True,
    ),
    Attack(
        "a linked folder", Fault.LINKS, "nobody", "offers a run whose adapter is a link to another folder",
        "push publishes that folder", linked_folder, repeats=False, is_long=True,
    ),
    Attack(
        "pipes and devices", Fault.LINKS, "nobody", "offers an adapter whose card is a pipe or an endless device",
        "push hangs", pipe_and_device, repeats=False, is_long=True,
    ),
    Attack(
        "a linked backup", Fault.LINKS, "nobody", "offers a backup in which a file is a link",
        "`registry copy` publishes the file behind it", linked_archive, repeats=False, is_long=True,
    ),
)  # fmt: skip
