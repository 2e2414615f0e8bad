"""Django's PostgreSQL, counted by django_prometheus, with a pool of our own (see agentsys.core.pool)."""

from functools import cache
from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS
from django_prometheus.db.backends.postgresql import base
from django_prometheus.db.common import ExportingCursorWrapper

from agentsys.core.pool import Pool


@cache
def _counting(cursors: type[Any], alias: str, vendor: str) -> type[Any]:
    made: type[Any] = ExportingCursorWrapper(cursors, alias, vendor)
    return made


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection; the pool, where settings ask for one, is the process's."""

    _connection_pools: dict[str, Pool]

    def get_connection_params(self) -> dict[str, Any]:
        """Asked for at each use of the pool: django_prometheus would make a class of cursors each time."""
        made: dict[str, Any] = super(base.DatabaseWrapper, self).get_connection_params()
        made["cursor_factory"] = _counting(made["cursor_factory"], self.alias, self.vendor)
        return made

    @property
    def pool(self) -> Pool | None:
        """As Django 5.2's, which cannot be told of another class of pool."""
        options: dict[str, Any] | None = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            kwargs = {**self.get_connection_params(), "autocommit": True}  # Django sets it later on
            made = Pool(kwargs=kwargs, open=False, configure=self._configure_connection, **options)
            self._connection_pools.setdefault(self.alias, made)  # the first of several threads wins
        return self._connection_pools[self.alias]
