"""``manage.py prepare``: what a version needs before its processes start; may be run again at will."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import Error, connection

from agentsys.infrastructure import role
from agentsys.runs import lanes


class Command(BaseCommand):
    help = (
        "Run migrations, set time-outs, make the first user, workspace and agent, give lanes the limit of the setting,"
        " and collect static files."
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        self._set_role_defaults()
        call_command("seed", verbosity=0)
        lanes.follow_setting()
        call_command("collectstatic", interactive=False, verbosity=0)

    def _set_role_defaults(self) -> None:
        try:
            role.set_defaults()
        except Error as error:
            connection.close()
            self.stderr.write(
                self.style.WARNING(
                    f"PostgreSQL did not take the defaults of our role ({str(error).strip()}). agentsys works without"
                    " them, but a frozen process may hold its locks for ever. Have an administrator set what"
                    " agentsys/infrastructure/sql/role.sql lists."
                )
            )
