"""Which processes work, as their own heartbeats tell: liveness is what PostgreSQL has seen."""

from datetime import timedelta

from django.db.models.functions import Now

from .models import Worker

_FORGET_AFTER = timedelta(hours=1)
#: A worker that was not heard of for so long is not alive, whatever its process does.
SILENT_S = 60


def hello(name: str, *, lane: str, host: str, pid: int, concurrency: int) -> None:
    """A process starts to work; repeating it does no harm."""
    Worker.objects.update_or_create(
        name=name, defaults={"lane": lane, "host": host, "pid": pid, "concurrency": concurrency, "seen_at": Now()}
    )


def alive(name: str, *, cpu_percent: float = 0.0, memory_bytes: int = 0, draining: bool = False) -> bool:
    """A process still works; False when it is not known (any more) and must say hello again."""
    values = {"cpu_percent": cpu_percent, "memory_bytes": memory_bytes, "draining": draining}
    return bool(Worker.objects.filter(name=name).update(seen_at=Now(), **values))


def live_lanes() -> set[str]:
    """Lanes that a worker serves which is alive and takes new work."""
    heard = Worker.objects.filter(seen_at__gt=Now() - timedelta(seconds=SILENT_S), draining=False)
    return set(heard.values_list("lane", flat=True))


def gone(name: str) -> None:
    """A process ends."""
    Worker.objects.filter(name=name).delete()


def forget_old() -> None:
    """Drop the rows of processes not seen for an hour."""
    Worker.objects.filter(seen_at__lt=Now() - _FORGET_AFTER).delete()
