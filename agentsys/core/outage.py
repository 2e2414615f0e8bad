"""Whether an error means that PostgreSQL is away, or only that it said no to one statement."""

from django.db import InterfaceError, OperationalError

#: 08 connection exceptions, 57P0x the server ends or this connection was ended by it.
_LOST = ("08", "57P0")


def is_lost(error: BaseException | None) -> bool:
    """Whether the connection was lost or could not be made.

    False for whatever one statement met on a sound connection: a lock that was not had in time (55P03),
    a constraint, a defect of ours.  Those say nothing about how long others could reach PostgreSQL.
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)  # none: the driver noticed by itself
    return state is None or state.startswith(_LOST)


def is_busy(error: BaseException) -> bool:
    """Whether a lock was not had within ``lock_timeout``: to be tried again, later."""
    return isinstance(error, OperationalError) and getattr(error.__cause__, "sqlstate", None) == "55P03"
