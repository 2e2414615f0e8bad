"""``manage.py migrate`` that does not hold up a database in use."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import OperationalError, connections

from agentsys.core import outage

#: Whoever waits for a table's lock keeps all who come later waiting behind him.
LOCK_TIMEOUT = "3s"


class Command(Migrate):
    """Django's own; a statement that does not get its lock within seconds fails, and its migration is undone."""

    def handle(self, *args: Any, **options: Any) -> Any:
        with connections[options["database"]].cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            before = cursor.fetchone()[0]
            cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        try:
            return super().handle(*args, **options)
        except OperationalError as error:
            if not outage.is_busy(error):
                raise
            raise CommandError(
                f"A table was in use for longer than {LOCK_TIMEOUT}; what was begun is undone. Run it again, best"
                " when no long query or backup runs."
            ) from error
        finally:
            with connections[options["database"]].cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])
