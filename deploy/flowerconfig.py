"""Flower's options in a container.  A file, as a password has no place on a command line."""

from pathlib import Path

from agentsys.observability.flower_login import protect_metrics

protect_metrics()

address = "0.0.0.0"  # noqa: S104 - compose publishes it on the host's loopback only
port = 5555
basic_auth = [Path("/run/secrets/flower_auth").read_text().strip()]  # name:password
read_only = True  # what runs is decided in agentsys, not beside it
max_tasks = 20_000
