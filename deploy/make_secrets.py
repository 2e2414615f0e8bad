"""``python3 deploy/make_secrets.py``: random secrets for compose.yaml, in .agentsys/secrets.

What is there already stays.  Standard library only.  The folder is for its owner alone; the files in
it are readable, as a container's user is not the owner (each container sees only its own ones).
"""

import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".agentsys" / "secrets"


def main() -> None:
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    FOLDER.chmod(0o700)
    postgres, redis = keep("postgres_password"), keep("redis_password")
    keep("database_url", f"postgresql://agentsys:{postgres}@postgres:5432/agentsys")
    keep("redis_url", f"redis://:{redis}@redis:6379/0")
    for name in ("secret_key", "jwt_secret_key", "vault_keys", "metrics_token"):
        keep(name)
    admin = keep("admin_password", secrets.token_urlsafe(15))
    keep("flower_auth", f"admin:{admin}")
    sys.stdout.write(f"secrets are in {FOLDER}; the admin's password is in admin_password\n")


def keep(name: str, value: str | None = None) -> str:
    """The secret of this name; ``value``, or a random one, if there is none yet."""
    file = FOLDER / name
    if not file.exists():
        file.write_text(value or secrets.token_hex(32))
        file.chmod(0o444)
    return file.read_text()


if __name__ == "__main__":
    main()
