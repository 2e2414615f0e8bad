"""``manage.py up``: the whole stack on this machine, until Ctrl-C."""

import contextlib
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from agentsys.infrastructure.processes import SetupFailed
from agentsys.infrastructure.supervisor import StopRequested, Supervisor
from agentsys.infrastructure.supervisor_children import LANES, lane_numbers
from agentsys.infrastructure.supervisor_wanted import Wanted
from agentsys.tools import registry


def add_stack_arguments(parser: CommandParser) -> None:
    lanes = "|".join(LANES)
    parser.add_argument("--workers", nargs="+", default=[], metavar=f"{lanes}=N", help="worker processes of a lane (1)")
    parser.add_argument(
        "--concurrency", nargs="+", default=[], metavar=f"{lanes}=N", help="steps a worker runs at once"
    )
    parser.add_argument("--with-parent", action="store_true", help="stop when the process that started this one ends")


def wanted_stack(options: dict[str, Any], **more: Any) -> Wanted:
    """What the environment and the command line ask for.

    Loads the tools too: a module of them that is broken is named here, before any child starts, and
    not in the log of the child that fails of it.

    Raises:
        SetupFailed: a number of the command line is none.
        ImproperlyConfigured: a module of tools does not import.
    """
    registry.load()
    env = settings.ENV
    chosen = env.model_fields_set
    return Wanted(
        base_dir=settings.BASE_DIR,
        data_dir=settings.DATA_DIR,
        database_url=env.database_url,
        redis_url=env.redis_url,
        host=env.host,
        port=env.port if "port" in chosen else None,
        flower_port=env.flower_port if "flower_port" in chosen else None,
        password=env.default_admin_password,
        drain_s=settings.DRAIN_S,
        pool_size=env.db_pool_size,
        http_allow=settings.HTTP_ALLOW,
        workers=lane_numbers(options["workers"], least=0),
        concurrency=lane_numbers(options["concurrency"], least=1, most=10_000),
        stop_with_parent=options["with_parent"],
        **more,
    )


class Command(BaseCommand):
    help = "Run PostgreSQL, Redis, the web process, workers and Flower until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add_stack_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            with Supervisor(wanted_stack(options), self._say) as supervisor:
                self._say(supervisor.welcome())
                supervisor.watch()
                self._say("stopping…")
            self._say("stopped")
        except SetupFailed as error:
            raise CommandError(str(error)) from error
        except StopRequested:
            self._say("stopped while starting")

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the stack goes on
            self.stdout.write(line)
            self.stdout.flush()
