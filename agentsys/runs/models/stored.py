"""JSON that may be kept beside its row: whoever reads it through the ORM gets the value, in the same query."""

import re
from typing import Any

from django.db.models import JSONField
from django.db.models.sql.compiler import SQLCompiler

_COLUMN = re.compile(r'("?\w+"?)\."\w+"')


class StoredJSON(JSONField):
    """A column whose large values store.payloads keeps by content.  Only for tables with a ``workspace_id``."""

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> tuple[str, Any]:  # noqa: ARG002 - Django's
        """Ask for what a reference stands for."""
        column = _COLUMN.fullmatch(sql)
        return (f'runs_value({column[1]}."workspace_id", {sql})' if column else sql), params

    def deconstruct(self) -> Any:
        """For migrations it is a column like any other."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs
