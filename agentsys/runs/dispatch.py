"""The doorbell's wire: the one way from here up to whatever wakes workers."""

import logging
from collections.abc import Sequence

from django.conf import settings
from django.utils.module_loading import import_string

logger = logging.getLogger(__name__)


def wake(lanes: Sequence[str]) -> None:
    """Ring once per step made ready, so that parallel steps meet parallel workers.

    Never raises: the rows are already committed, so a lost ring costs delay and not work (the sweeper
    rings every lane with ready steps once a second).
    """
    if not lanes:
        return
    try:
        import_string(settings.DISPATCHER)(lanes)
    except Exception as error:  # a broker outage must not turn a recorded run into a 500
        logger.warning("could not ring %s: %r", sorted(set(lanes)), error)
