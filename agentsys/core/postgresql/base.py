"""Django's PostgreSQL, counted by django_prometheus, with a pool of our own (see agentsys.core.pool)."""

from typing import Any

from django.db.backends.base.base import NO_DB_ALIAS
from django_prometheus.db.backends.postgresql import base

from agentsys.core.pool import Pool


class DatabaseWrapper(base.DatabaseWrapper):
    """One thread's connection; the pool, where settings ask for one, is the process's."""

    _connection_pools: dict[str, Pool]

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
