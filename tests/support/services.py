"""A pytest plugin: a PostgreSQL and a Redis of the tests' own, before settings are read.

Loaded by ``-p`` so that it runs before Django is set up.  Workers of pytest-xdist inherit the addresses.
``DATABASE_URL`` and ``REDIS_URL`` in the environment name other servers to test against.
"""

import atexit
import os
from contextlib import ExitStack

from agentsys.infrastructure.embedded import Postgres, Redis, scratch

SETTINGS = {
    "SECRET_KEY": "only-for-tests-0123456789-0123456789-0123456789",
    "AGENTSYS_ENV_FILE": os.devnull,
    "AGENTSYS_RETRY_BASE_S": "0.05",
}


def _start() -> None:
    stack = ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(scratch())
    os.environ["AGENTSYS_DATA_DIR"] = str(folder / "data")
    if "DATABASE_URL" not in os.environ:
        # Nothing here outlives the tests, and fsync on a shared disk would time the machine, not us.
        postgres = Postgres(folder / "pg", max_connections=200, settings={"fsync": "off"})
        os.environ["DATABASE_URL"] = postgres.start()
        stack.callback(postgres.stop)
    if "REDIS_URL" not in os.environ:
        redis = Redis(folder / "redis")
        os.environ["REDIS_URL"] = redis.start()
        stack.callback(redis.stop)


os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
if "PYTEST_XDIST_WORKER" not in os.environ:
    _start()
