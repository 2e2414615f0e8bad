#!/usr/bin/env python
"""The command line: `python manage.py help` lists what there is."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

from agentsys import environment
from agentsys.infrastructure.processes import SetupFailed
from agentsys.infrastructure.supervisor_files import keep_secret_key

#: They make what settings need: on a first start there is no SECRET_KEY yet.
STARTERS = {"up", "demo", "services"}

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsys.settings")
    try:
        if STARTERS.intersection(sys.argv[1:2]):
            keep_secret_key(environment.read().data_dir)
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, SetupFailed) as error:
        sys.exit(f"agentsys: {error}")
