"""What PostgreSQL gives every connection of ours to begin with.

- ``idle_in_transaction_session_timeout`` 30 s: a process that is frozen in a transaction keeps its locks no
  longer.  Ours take milliseconds.
- ``lock_timeout`` 10 s: whoever meets such a lock fails that one statement and goes on.  A migration that would
  wait longer would hold up everybody behind it.  pg_dump sets its own.
- ``enable_seqscan`` off: each statement of the engine has an index, but a plan that was made while a table was
  empty reads it whole, and is kept until PostgreSQL has analysed the grown table (a minute or more).  Where no
  index fits the table is read all the same.
- ``jit`` off: before PostgreSQL 18 a table read in spite of that counts as so dear that its query is compiled,
  which costs more than the query.

No ``statement_timeout``: migrations and ``verify`` may take minutes, and what can hang is bounded by the above and
by TCP's own time-outs (see the settings).
"""

from pathlib import Path

from agentsys.core import db

SQL = db.load(Path(__file__).with_name("sql"))


def set_defaults() -> None:
    """Set them for the current role in the current database; safe to repeat, keeps what an operator has set.

    Raises:
        django.db.Error: PostgreSQL refused.
    """
    db.rows(SQL["set_role_defaults"])
