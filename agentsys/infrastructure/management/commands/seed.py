"""`manage.py seed`: what an empty installation needs before its first goal.  Safe to repeat."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from agentsys.accounts import services as accounts
from agentsys.accounts.models import Role
from agentsys.agents import services as agents

WORKSPACE = "default"


class Command(BaseCommand):
    """Makes the workspace ``default``, its admin and the agent ``assistant``; changes none that is there."""

    help = "Make the default workspace, its admin and its agent; what exists stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", default="admin")
        parser.add_argument("--password", default="", help="default: DEFAULT_ADMIN_PASSWORD")
        parser.add_argument("--reset-password", action="store_true", help="also if the user exists")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        workspace = accounts.ensure_workspace(slug=WORKSPACE, name="Default")
        password = options["password"] or settings.DEFAULT_ADMIN_PASSWORD
        try:
            user, made = accounts.ensure_superuser(
                username=options["username"], password=password, reset=options["reset_password"]
            )
        except ValueError:
            raise CommandError("Set DEFAULT_ADMIN_PASSWORD, or give --password.") from None
        accounts.ensure_member(workspace=workspace, user=user, role=Role.ADMIN)
        agents.ensure_default(workspace_id=workspace.pk)
        if options["verbosity"]:
            state = "made" if made else "there already"
            self.stdout.write(
                f"workspace {workspace.slug}, admin {user.username} ({state}), agent {agents.DEFAULT_SLUG}"
            )
