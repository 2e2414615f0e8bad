"""For Flower's configuration, which is Python: its ``/metrics`` asks for the login its pages ask for.

Flower serves it to everybody, and it names every worker and every kind of task.
"""

from flower.views.monitor import Metrics
from tornado.web import authenticated


def protect_metrics() -> None:
    """Must be called before Flower starts, in its own process."""
    Metrics.get = authenticated(Metrics.get)
