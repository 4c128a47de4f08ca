"""Secrets of a deployment: random, one file each, written once. `make secrets` writes those of docker-compose.yml.

Uses only Python's standard library. Only the owner can open the folder; its files are readable by others, since each
container that mounts them runs as its own user.
"""

import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
REDIS_AUTH = "redis_auth"
"""Line of Redis' configuration that sets its password."""
REGISTRY = "superpos_registry"
"""The setting `registry`: a URL with password."""
ADMIN_KEY = "superpos_admin_key"
"""The setting `admin_key`: the first operator's key."""
GRAFANA_PASSWORD = "grafana_admin_password"  # noqa: S105, a file's name
NAMES = (REDIS_AUTH, REGISTRY, ADMIN_KEY, GRAFANA_PASSWORD)


def make_secrets(folder: Path = FOLDER, *, redis: str = "redis:6379") -> list[str]:
    """Write the missing files and return their names.

    Args:
        folder: folder of the files
        redis: address of Redis in the registry's URL
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(folder)
    password = secrets.token_hex(24)
    if (folder / REDIS_AUTH).exists():
        password = (folder / REDIS_AUTH).read_text(encoding="ascii").split()[1]
    contents = {
        REDIS_AUTH: f"requirepass {password}\n",
        REGISTRY: f"redis://:{password}@{redis}/0\n",
        # a new id each time, since a revoked id stays revoked
        ADMIN_KEY: f"sp_admin{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}\n",
        GRAFANA_PASSWORD: f"{secrets.token_urlsafe(24)}\n",
    }
    made = [name for name in NAMES if not (folder / name).exists()]
    for name in made:
        (folder / name).write_text(contents[name], encoding="ascii")
        (folder / name).chmod(0o644)
    return made


def _close(folder: Path) -> None:
    """Make an existing folder private to its owner.

    Raises:
        PermissionError: another user owns it; the message has the command for its owner
    """
    if not folder.stat().st_mode & 0o077:
        return
    try:
        folder.chmod(0o700)
    except PermissionError as exc:
        raise PermissionError(f"{folder} can be opened by other users; its owner must run: chmod 700 {folder}") from exc


def main() -> None:
    """Write the secrets of docker-compose.yml."""
    try:
        made = make_secrets()
    except PermissionError as exc:
        sys.exit(f"secrets: {exc}")
    print(f"{FOLDER}: created {', '.join(made) or 'nothing; all secrets exist'}")


if __name__ == "__main__":
    main()
