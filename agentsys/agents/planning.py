"""How the runs of an agent version plan anew and act.

``{replan_on_failure, max_plans, max_fan_out, max_repeats, max_turns, cache_s}``: the last is how old an answer of a
model to the very same question may be to be taken again, in seconds.

Each is optional: the installation's setting, or none for the first, stands in for what is left out.
"""

from collections.abc import Iterator
from typing import Any

from agentsys.core.faults import Fault, fault

#: Term -> (least, greatest), whole numbers.
TERMS: dict[str, tuple[int, int]] = {
    "replan_on_failure": (0, 20),
    "max_plans": (1, 50),
    "max_fan_out": (1, 1_000),
    "max_repeats": (1, 1_000),
    "max_turns": (1, 200),
    "cache_s": (0, 31_536_000),
}


def faults(terms: Any, *, path: str = "planning") -> Iterator[Fault]:
    """What is wrong with an agent version's terms."""
    if not isinstance(terms, dict):
        yield fault(path, "type", "planning must be an object.")
        return
    for name, value in terms.items():
        where = f"{path}.{name[:50]}"
        if name not in TERMS:
            yield fault(where, "unknown_field", f"There is no such term; there are {', '.join(TERMS)}.")
        elif not isinstance(value, int) or isinstance(value, bool):
            yield fault(where, "type", "Must be a whole number.")
        elif not TERMS[name][0] <= value <= TERMS[name][1]:
            yield fault(where, "bad_value", f"Must be from {TERMS[name][0]} to {TERMS[name][1]:,}.")
