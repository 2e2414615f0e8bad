"""Mail addresses: what is taken for one, and to which mail may be sent."""

import re
from collections.abc import Iterable

#: Without a display name, quotes or comments: nothing that a header could be built with.
MAILBOX = re.compile(
    r"(?=.{3,254}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def is_allowed(address: str, allowed: Iterable[str]) -> bool:
    """Whether a list of addresses, and of domains such as ``@example.org``, has this one."""
    known = {entry.lower() for entry in allowed}
    return address.lower() in known or "@" + address.lower().rpartition("@")[2] in known
