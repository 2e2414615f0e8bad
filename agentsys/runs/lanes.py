"""Use cases of lanes: how many steps of each a workspace may have ready or running, and its share beside others.

A change counts at once.  Raised, what is queued comes in; lowered, what has not started goes back to the queue and what
runs ends: the count falls to the limit as it does, and nothing is admitted before.  A running chain keeps its slot from
step to step, as ever, so it is over with the chain.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from agentsys.accounts.models import User
from agentsys.core.errors import InvalidInput, NotFound
from agentsys.core.faults import fault

from . import dispatch, services
from .models import LaneSlot
from .states import Lane
from .store import slots

logger = logging.getLogger(__name__)
MAX_LIMIT = 100_000
LEAST_WEIGHT, MAX_WEIGHT = 0.01, 100


@dataclass(frozen=True, slots=True)
class Share:
    """What a workspace has of a lane: ``limit`` and ``used`` in steps; ``custom``: a person has set it."""

    lane: str
    limit: int
    used: int = 0
    weight: float = 1.0
    custom: bool = False


def of_workspace(workspace_id: UUID) -> list[Share]:
    """Of each lane, also those that it has never used.  One query."""
    rows = {row.lane: row for row in LaneSlot.objects.filter(workspace_id=workspace_id)}
    return [_share(lane.value, rows.get(lane.value)) for lane in Lane]


def _share(lane: str, row: LaneSlot | None) -> Share:
    if row is None:
        return Share(lane, settings.LANE_SLOTS)
    return Share(lane, row.lim, row.used, row.weight, row.custom)


def change(workspace_id: UUID, lane: str, given: Mapping[str, Any], *, user: User | None) -> Share:
    """Set a lane's ``limit`` (1 to 100,000), its ``weight`` (0.01 to 100), or both; what is left out stays.

    Raises:
        NotFound: there is no such lane.
        InvalidInput: ``errors`` lists what is wrong; nothing was changed.
    """
    if lane not in Lane.values:
        raise NotFound("There is no such lane.")
    if wrong := list(faults(given)):
        raise InvalidInput("The lane's limits are not valid; see errors.", errors=wrong)
    admitted = slots.set_limit(workspace_id, lane, lim=given.get("limit"), weight=given.get("weight"))
    if admitted is None:
        raise NotFound("There is no such workspace.")
    logger.info("%s set lane %s of workspace %s: %s", services.name_of(user), lane, workspace_id, dict(given))
    dispatch.wake(admitted)
    return next(share for share in of_workspace(workspace_id) if share.lane == lane)


def follow_setting() -> int:
    """Slots that nobody has set get the installation's limit as it is now; how many had another.

    For the start of a version or a changed setting: what is over goes back to the queue and what waits comes in within
    a second or two, by the sweeper.
    """
    return slots.set_default(settings.LANE_SLOTS)


def faults(given: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """What is wrong with a ``limit``, a ``weight``, or both."""
    if not given:
        yield fault("limit", "missing", "Give a limit, a weight, or both.")
    if "limit" in given:
        yield from _limit_faults(given["limit"])
    if "weight" in given:
        yield from _weight_faults(given["weight"])


def _limit_faults(value: Any) -> Iterator[dict[str, str]]:
    if isinstance(value, bool) or not isinstance(value, int):
        yield fault("limit", "type", "Must be a whole number.")
    elif not 1 <= value <= MAX_LIMIT:
        yield fault("limit", "bad_value", f"Must be at least 1 and at most {MAX_LIMIT:,}.")


def _weight_faults(value: Any) -> Iterator[dict[str, str]]:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value != value
        or value in (math.inf, -math.inf)
    ):
        yield fault("weight", "type", "Must be a number.")
    elif not LEAST_WEIGHT <= value <= MAX_WEIGHT:
        yield fault("weight", "bad_value", f"Must be at least {LEAST_WEIGHT} and at most {MAX_WEIGHT}.")
