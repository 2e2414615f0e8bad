"""``manage.py services``: only PostgreSQL and Redis, for work on the code with one's own processes."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agentsys.infrastructure.embedded import Postgres, Redis, SetupFailed
from agentsys.infrastructure.supervisor_files import Files


class Command(BaseCommand):
    help = "Run the embedded PostgreSQL and Redis until Ctrl-C; manage.py finds them by itself."
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        asked = threading.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: asked.set())
        postgres, doorbell = Postgres(settings.DATA_DIR), Redis(settings.DATA_DIR)
        try:
            urls = {"database_url": postgres.start(), "redis_url": doorbell.start()}
            Files(settings.DATA_DIR).keep(**urls)
            self.stdout.write(f"DATABASE_URL={urls['database_url']}\nREDIS_URL={urls['redis_url']}")
            while not asked.wait(0.5) and postgres.alive() and doorbell.alive():
                pass
        except SetupFailed as error:
            raise CommandError(str(error)) from error
        finally:
            doorbell.stop()
            postgres.stop()
        self.stdout.write("stopped")
