"""`manage.py rotate_credentials`: encrypt every secret anew by the first of the installation's keys.

Safe to repeat and to interrupt, and while everything runs: other processes open both the old and the new as long as
they have both keys.  A new key therefore goes behind the old one everywhere, then in front of it everywhere; after this
command the old one can go.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agentsys.accounts import credentials


class Command(BaseCommand):
    help = "Encrypt all credentials anew by the first key of AGENTSYS_VAULT_KEYS; exit 1 if one cannot be read."

    def handle(self, *args: Any, **options: Any) -> None:
        done, unreadable = 0, list[str]()
        for count, unread in credentials.rotate():
            done += count
            unreadable += unread
        if options["verbosity"]:
            self.stdout.write(f"{done} credentials are encrypted by the first key")
        if unreadable:
            shown = ", ".join(unreadable[:20]) + (" …" if len(unreadable) > 20 else "")
            raise CommandError(
                f"{len(unreadable)} are opened by none of the keys; bring the key back or enter them anew: {shown}"
            )
