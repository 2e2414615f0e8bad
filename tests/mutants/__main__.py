"""``make mutants``: remove each guard in turn, in a copy of the tree; the tests named for it must fail.

    python -m tests.mutants [--ci] [name…]

Prints a table; ends with 1 if a guard can go without anybody noticing, with 2 if a mutant could not be played.
"""

import argparse
import sys
import time

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.play import Lab, Verdict


def main() -> int:
    chosen = _chosen()
    with Lab() as lab:
        verdict, by = lab.unchanged(chosen)
        if verdict is not Verdict.SURVIVED:
            print(f"The tests fail without any change, so nothing is proved: {by}", flush=True)
            return 2
        verdicts = [_played(lab, mutant) for mutant in chosen]
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    print("; ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count))
    return 2 if counts[Verdict.BROKEN] else int(bool(counts[Verdict.SURVIVED]))


def _played(lab: Lab, mutant: Mutant) -> Verdict:
    begun = time.monotonic()
    verdict, by = lab.play(mutant)
    seconds = f"{time.monotonic() - begun:5.1f} s"
    print(f"{verdict.value:9} {seconds}  {mutant.guard}", f"  [{by}]" if by else "", flush=True)
    if mutant.both:
        print(f"{'':18}  (removed together: {mutant.both})", flush=True)
    return verdict


def _chosen() -> list[Mutant]:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--ci", action="store_true", help="those that CI plays")
    parser.add_argument("words", nargs="*", help="only guards whose names have all of these")
    given = parser.parse_args()
    found = [one for one in MUTANTS if (one.ci or not given.ci) and all(word in one.guard for word in given.words)]
    if not found:
        parser.error("no guard has such a name")
    return found


if __name__ == "__main__":
    sys.exit(main())
