"""The secrets of a deployment: random, a file each, made once and kept. `make secrets` makes docker-compose.yml's.

Needs nothing but Python. The folder is its owner's alone; the files in it can be read by whoever they are mounted for,
as containers run as users of their own.
"""

import secrets
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
REDIS_AUTH = "redis_auth"
"""A line of Redis' configuration that sets its password."""
REGISTRY = "superpos_registry"
"""The registry's place, password included: the setting of that name."""
ADMIN_KEY = "superpos_admin_key"
"""The first administrator's key: the setting of that name."""
GRAFANA_PASSWORD = "grafana_admin_password"  # noqa: S105, a file's name
NAMES = (REDIS_AUTH, REGISTRY, ADMIN_KEY, GRAFANA_PASSWORD)


def make_secrets(folder: Path = FOLDER, *, redis: str = "redis:6379") -> list[str]:
    """Make the files that are missing; the names of those that were made come back.

    Args:
        folder: where they are
        redis: where Redis is for those who have the registry's place
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = secrets.token_hex(24)
    if (folder / REDIS_AUTH).exists():
        password = (folder / REDIS_AUTH).read_text(encoding="ascii").split()[1]
    contents = {
        REDIS_AUTH: f"requirepass {password}\n",
        REGISTRY: f"redis://:{password}@{redis}/0\n",
        ADMIN_KEY: f"sp_admin_{secrets.token_urlsafe(32)}\n",
        GRAFANA_PASSWORD: f"{secrets.token_urlsafe(24)}\n",
    }
    made = [name for name in NAMES if not (folder / name).exists()]
    for name in made:
        (folder / name).write_text(contents[name], encoding="ascii")
        (folder / name).chmod(0o644)
    return made


def main() -> None:
    """Make docker-compose.yml's secrets."""
    made = make_secrets()
    print(f"{FOLDER}: made {', '.join(made) or 'nothing, all are there'}")


if __name__ == "__main__":
    main()
