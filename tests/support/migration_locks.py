"""What a migration may not do to tables that are large and in use: hold a lock while it reads or writes them whole."""

import re
from collections.abc import Iterable, Iterator

#: Tables that grow with every run, or that each step reads.
HOT = frozenset(
    {
        "runs_run", "runs_step", "runs_stepedge", "runs_event", "runs_attempt", "runs_approval", "runs_message",
        "runs_modelcall", "runs_runfile", "runs_payload", "runs_payloaduse", "runs_pruned", "runs_budget",
        "runs_reservation",
    }
)  # fmt: skip

_TABLE = r'(?:ONLY\s+)?(?:IF\s+EXISTS\s+)?"?(?:public"?\.)?"?(\w+)"?'
_VOLATILE = r"random|gen_random_uuid|uuid_generate_v\w+|clock_timestamp|timeofday|nextval"
#: (what a statement on a hot table must not look like, what to do instead); the first group is the table.
_RULES = [
    (
        rf"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:.*? )?ON {_TABLE}",
        "it keeps every writer out while it reads the table: AddIndexConcurrently (or CREATE … INDEX CONCURRENTLY),"
        " in a migration of its own with atomic = False",
    ),
    (
        rf"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS .*?ON {_TABLE}",
        "one that was broken off is there, invalid, and would be left so: DROP INDEX CONCURRENTLY IF EXISTS before it",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:CONSTRAINT \S+ )?(?:CHECK|FOREIGN KEY)\b(?!.*NOT VALID)",
        "it reads the table under a lock: ADD CONSTRAINT … NOT VALID, and VALIDATE CONSTRAINT in the next migration"
        " (AddConstraintNotValid, ValidateConstraint)",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:CONSTRAINT \S+ )?(?:UNIQUE|PRIMARY KEY|EXCLUDE)\b(?!.*USING INDEX)",
        "it builds an index under a lock: CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE\b",
        "it may write the table anew: a new column, filled in batches, and read in its place; a varchar that only"
        " grows is harmless, and named in HARMLESS",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ALTER (?:COLUMN )?\S+ SET NOT NULL",
        "it reads the table under a lock: CHECK (… IS NOT NULL) NOT VALID, VALIDATE in the next migration",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD COLUMN .*(?:DEFAULT [^,]*\b(?:{_VOLATILE})\s*\(|\bSTORED\b|SERIAL\b|AS IDENTITY)",
        "every row is written at once, for each has a value of its own: a column that may be null, filled in batches",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD COLUMN (?!.*DEFAULT)(?=.*NOT NULL)",
        "rows that are there have no value: give it a db_default, which costs nothing",
    ),
    (
        rf"(?:UPDATE|DELETE FROM|MERGE INTO) {_TABLE}",
        "it keeps its locks until all rows are done: a command that does it in batches, see runs.store.prune",
    ),
    (
        rf"(?:TRUNCATE|LOCK|CLUSTER|VACUUM FULL|REINDEX)(?: TABLE)? {_TABLE}",
        "nobody reads or writes the table meanwhile",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*(?:SET TABLESPACE|SET (?:UN)?LOGGED|ATTACH PARTITION|SET ACCESS METHOD)",
        "it writes or reads the whole table under a lock",
    ),
]  # fmt: skip
_PATTERNS = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in _RULES]
_CREATED = re.compile(rf"CREATE (?:TEMP(?:ORARY)? |UNLOGGED )?TABLE (?:IF NOT EXISTS )?{_TABLE}", re.IGNORECASE)
_VALIDATE = re.compile(rf"ALTER TABLE {_TABLE} .*VALIDATE CONSTRAINT", re.IGNORECASE)
_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_PYTHON = re.compile(r"raw python", re.IGNORECASE)


def statements(parts: Iterable[str]) -> Iterator[str]:
    """Single statements on one line each; what functions do inside does not happen now."""
    for part in parts:
        if _PYTHON.search(part):
            yield "RUN PYTHON"
        for statement in _COMMENT.sub(" ", _BODY.sub("''", part)).split(";"):
            if text := " ".join(statement.split()):
                yield text


def faults(parts: Iterable[str], *, atomic: bool = True) -> list[str]:
    """What is wrong with a migration's SQL, and what to do instead, a line each."""
    made: set[str] = set()
    changed: set[str] = set()
    found = []
    for text in statements(parts):
        made.update(match[1] for match in _CREATED.finditer(text))
        found += [f"{text[:120]}\n    {advice}" for advice in _advice(text, HOT - made)]
        if (match := _VALIDATE.match(text)) and match[1] in changed and atomic:
            found.append(f"{text[:120]}\n    it reads under the lock of the change before it: a migration of its own")
        if match := re.match(rf"ALTER TABLE {_TABLE}", text, re.IGNORECASE):
            changed.add(match[1])
    return found


def _advice(text: str, hot: frozenset[str]) -> Iterator[str]:
    if text == "RUN PYTHON":
        yield "nobody sees what Python does: name the migration in HARMLESS once somebody has looked"
    for pattern, advice in _PATTERNS:
        if (match := pattern.match(text)) and match[1] in hot:
            yield advice
