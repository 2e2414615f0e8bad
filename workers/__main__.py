"""``python -m workers LANE [--concurrency N] [--name NAME]``: become the Celery worker of a lane.

A program of its own and not an import: the kind of database connection must be in the environment
before Django reads its settings.
"""

import argparse
import os
import resource
import sys

from workers.lanes import LANES

MAX_FILES = 20_000


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    plan = LANES[options.lane]
    if plan.pool == "prefork":  # a pool would be closed round every task; one connection a child is kept
        os.environ.setdefault("AGENTSYS_DB_MODE", "persistent")
    _raise_limit_of_files()
    os.execv(sys.executable, [sys.executable, "-m", "celery", *_command(options)])  # noqa: S606 - our own words


def _raise_limit_of_files() -> None:
    """Each call that waits has a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description="Serve one lane.")
    parser.add_argument("lane", choices=sorted(LANES))
    parser.add_argument("--concurrency", type=int, metavar="N", help="steps at a time")
    parser.add_argument("--name", help="the worker's name before @host; default: its lane")
    return parser


def _command(options: argparse.Namespace) -> list[str]:
    """What is left out: mingle and gossip tell workers of each other, which ours need not know."""
    plan = LANES[options.lane]
    return [
        *("--quiet", "--app", "workers.celery:app", "worker"),
        *("--queues", options.lane, "--pool", plan.pool),
        *("--concurrency", str(options.concurrency or plan.slots)),
        *("--hostname", f"{options.name or options.lane}@%h"),
        *("--without-mingle", "--without-gossip", "--loglevel", "INFO"),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
