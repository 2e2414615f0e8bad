"""A secret that must be nowhere, and a look at everywhere."""

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from django.db import connection

_BYTES = re.compile(r"\\\\x((?:[0-9a-f]{2})+)")
#: With characters that every encoding writes in another way.
CANARY = "canary/7f3a+91\"c0'de&<b6>=ü\\x"


def forms(secret: str = CANARY) -> list[str]:
    """The secret as texts may have it."""
    raw = secret.encode()
    cores = [base64.b64encode(b"\0" * n + raw).decode()[-(-8 * n // 6) : 8 * (n + len(raw)) // 6] for n in range(3)]
    escaped = [json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]]
    quoted = [quote(secret), quote(secret, safe=""), quote_plus(secret), quote(secret, safe="").lower()]
    # As a text column shows a JSON text that has a JSON text in it.
    twice = [json.dumps(one)[1:-1] for one in escaped]
    return [secret, raw.hex(), *cores, *escaped, *quoted, *twice]


def found_in(texts: Iterable[tuple[str, str]], secret: str = CANARY) -> list[str]:
    """Where among (place, text) the secret is, in whatever form."""
    wanted = forms(secret)
    return [f"{place}: {form!r}" for place, text in texts for form in wanted if form in text]


def database() -> list[tuple[str, str]]:
    """Every row of every table as text; what is stored as bytes also as the text that it may be."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = []
        for table in tables:
            cursor.execute(f'SELECT to_jsonb(t)::text FROM "{table}" t')
            rows += [(table, row) for (row,) in cursor.fetchall()]
    decoded = [
        (table, bytes.fromhex(raw).decode(errors="replace")) for table, row in rows for raw in _BYTES.findall(row)
    ]
    assert len(tables) > 20
    return rows + decoded
