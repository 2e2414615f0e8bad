"""PostgreSQL and Redis without set-up: real servers from the wheels' binaries, run by us.

The public door of this corner.  Only the wheels' binaries are used, never their wrappers: one of
those trusts every local user and opens parent folders.  ``DATABASE_URL`` and ``REDIS_URL`` replace
these servers by real ones; nothing else changes.
"""

from agentsys.infrastructure.embedded_places import scratch
from agentsys.infrastructure.embedded_postgres import Postgres
from agentsys.infrastructure.embedded_redis import Redis
from agentsys.infrastructure.processes import SetupFailed

__all__ = ["Postgres", "Redis", "SetupFailed", "scratch"]
