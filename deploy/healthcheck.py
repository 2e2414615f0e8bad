"""``healthcheck.py web|worker|flower``: exit code 0 when this container does its work.

Loads no Django: it runs every ten seconds in every container (0.1 s of CPU).
"""

import os
import socket
import sys
import urllib.request
from pathlib import Path

import psycopg

#: A worker tells PostgreSQL every ten seconds that it lives; connected alone does not count as work.
SEEN = (
    "SELECT count(*) FROM infrastructure_worker WHERE host = %s AND seen_at > clock_timestamp() - interval '1 minute'"
)


def answers(url: str) -> bool:
    """Whether there is a 2xx within three seconds."""
    with urllib.request.urlopen(url, timeout=3) as answer:  # noqa: S310 - our own address
        return bool(200 <= answer.status < 300)


def worker_is_seen() -> bool:
    """Whether a worker of this container has told PostgreSQL lately that it claims."""
    with psycopg.connect(setting("DATABASE_URL"), connect_timeout=3) as connection:
        row = connection.execute(SEEN, [socket.gethostname()]).fetchone()
    return bool(row and row[0])


def setting(name: str) -> str:
    """A setting as the containers get it: by name, or by the file that holds it."""
    return os.environ.get(name) or Path(os.environ[f"{name}_FILE"]).read_text().strip()


CHECKS = {
    "web": lambda: answers(f"http://127.0.0.1:{os.environ.get('AGENTSYS_PORT', '8000')}/healthz"),
    "worker": worker_is_seen,
    "flower": lambda: answers(f"http://127.0.0.1:{os.environ.get('AGENTSYS_FLOWER_PORT', '5555')}/healthcheck"),
}


def main(what: str) -> int:
    try:
        return 0 if CHECKS[what]() else 1
    except (OSError, psycopg.Error, KeyError) as error:
        print(f"{what}: {error}", file=sys.stderr)  # noqa: T201 - `docker inspect` shows it
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
