"""What a mutant is.  A change is (file, text that is there exactly once, text in its place)."""

from dataclasses import dataclass

Change = tuple[str, str, str]


@dataclass(frozen=True)
class Mutant:
    """``tests`` are pytest's arguments; those marked ``ci`` are played by CI; ``fresh``: the tables are made anew."""

    guard: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
    ci: bool = False
    both: str = ""
    fresh: bool = False
