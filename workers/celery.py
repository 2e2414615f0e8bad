"""The Celery application: settings, and nothing that decides what runs (that is a claim in PostgreSQL).

Start a worker with ``python -m workers LANE`` (see ``__main__``).
"""

import os

import django
from celery import Celery
from celery.signals import setup_logging
from django.apps import apps
from django.conf import settings

from workers import transport

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsys.settings")
if not apps.ready:
    django.setup()
transport.install()

#: A publish or an acknowledgement that Redis does not answer within this is given up.
REDIS_TIMEOUT_S = 1.0

# No fix-up: Celery's own for Django closes every connection round every task; node.py closes only
# what is broken or too old.
app = Celery("agentsys", fixups=(), include=("workers.tasks",))
app.conf.update(
    # One list of Redis a lane, named after it.  No exchange or routing key is ever published: after
    # FLUSHALL their bindings are gone, and such a message would vanish without a word.
    broker_url=settings.REDIS_URL,
    task_default_queue="system",
    task_create_missing_queues=True,
    task_serializer="json",
    event_serializer="json",
    accept_content=["json"],
    # The lease in PostgreSQL is the acknowledgement.  With late acks, Redis's visibility time-out
    # would hand a long task to a second worker; with early ones it is of no importance.
    task_acks_late=False,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    result_backend=None,
    # A bell a slot may wait in the worker: handing it over then costs no round trip.  More would keep
    # bells from idle workers.
    worker_prefetch_multiplier=1,
    worker_consumer="workers.consumer:SafeConsumer",
    worker_send_task_events=True,
    task_send_sent_event=False,
    # A child keeps its connections and imported tools for life; a step's deadline is the engine's.
    worker_max_tasks_per_child=None,
    task_soft_time_limit=None,
    task_time_limit=None,
    # True only quiets a warning: it concerns late acks, and there are none.
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_enable_prefetch_count_reduction=False,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # Nothing that Redis does ends a worker.
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    broker_transport_options={
        "socket_timeout": REDIS_TIMEOUT_S,
        "socket_connect_timeout": REDIS_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "priority_steps": [0],  # one list a lane: order is PostgreSQL's
    },
    task_publish_retry=False,
    timezone="UTC",
    enable_utc=True,
)


@setup_logging.connect
def _keep_django_logging(**_: object) -> None:
    """Celery leaves logging alone when this signal has a receiver; Django has set it up."""
