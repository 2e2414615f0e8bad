"""Use cases of run control: pause, resume.  REST and admin call these; ``services`` has submit and cancel."""

from agentsys.accounts.models import User
from agentsys.core.errors import InvalidTransition

from . import dispatch, services
from .models import Run
from .store import control


def pause(run: Run, *, user: User | None = None) -> Run:
    """No further step of the run starts; those that run end, and their results are kept.

    A paused run stays as it is; its deadline still ends it.

    Raises:
        InvalidTransition: the run ends or has ended.
    """
    if not control.pause(run.pk, by=services.name_of(user)):
        raise _refused(run, "The run has finished or is being stopped; it cannot be paused.")
    return services.get(run.workspace_id, run.pk)


def resume(run: Run, *, user: User | None = None) -> Run:
    """A paused run goes on where it was.

    Raises:
        InvalidTransition: the run is not paused.
    """
    lanes = control.resume(run.pk, by=services.name_of(user))
    if lanes is None:
        raise _refused(run, "The run is not paused.")
    dispatch.wake(lanes)
    return services.get(run.workspace_id, run.pk)


def _refused(run: Run, message: str) -> InvalidTransition:
    run.refresh_from_db(fields=["status"])
    return InvalidTransition(message, run_id=str(run.pk), status=run.status)
