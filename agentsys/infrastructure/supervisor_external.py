"""Servers of one's own (DATABASE_URL, REDIS_URL): reachable, or one line that says why not."""

import psycopg
import redis

from agentsys.infrastructure.processes import SetupFailed

TIMEOUT_S = 5


def check_database(url: str) -> None:
    """Raises SetupFailed when it does not answer a query, whatever the reason."""
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_S) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise SetupFailed(f"DATABASE_URL: {_first_line(error)}") from error


def check_redis(url: str) -> None:
    """Raises SetupFailed when it does not answer a PING, whatever the reason."""
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise SetupFailed(f"REDIS_URL: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
