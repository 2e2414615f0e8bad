"""``manage.py verify``: the engine's invariants on the live database, one line each."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agentsys.runs import verify


class Command(BaseCommand):
    help = "Check the engine's invariants; exit 1 on any violation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--acknowledged", metavar="FILE", help="a run id a line: runs that submitters know of")

    def handle(self, *args: Any, acknowledged: str | None, **options: Any) -> None:
        findings = verify.check(_lines(acknowledged))
        for finding in findings:
            self.stdout.write(_line(finding))
        if any(finding.violations for finding in findings):
            sys.exit(1)


def _lines(file: str | None) -> list[str] | None:
    if file is None:
        return None
    try:
        return Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--acknowledged {file}: {error}") from None


def _line(finding: verify.Finding) -> str:
    if finding.violations is None:
        return f"{finding.name:4} -     {finding.text}: not checked"
    if not finding.violations:
        return f"{finding.name:4} ok    {finding.text}"
    return f"{finding.name:4} WRONG {finding.text}: {finding.violations}, such as {', '.join(finding.examples)}"
