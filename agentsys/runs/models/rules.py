"""CHECK constraints in SQL: PostgreSQL reads a constraint's tree anew for each statement, and Q's are long."""

from django.db.models import BooleanField, CheckConstraint
from django.db.models.expressions import RawSQL


def rule(name: str, sql: str) -> CheckConstraint:
    """What a row must always satisfy, named after the rule."""
    return CheckConstraint(condition=RawSQL(sql, [], output_field=BooleanField()), name=name)  # noqa: S611 - our words
