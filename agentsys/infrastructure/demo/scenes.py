"""The goals of the demo.  Their input is real: this service, this project, a computation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: JMESPath over an OpenAPI document.
ANALYSIS = (
    "{title: info.title, paths: length(keys(paths)), "
    "operations: length(paths.*.keys(@)[]), schemas: length(keys(components.schemas))}"
)
SIEVE = """
limit = int(limit)
sieve = [True] * (limit + 1)
primes = []
for number in range(2, limit + 1):
    if sieve[number]:
        primes.append(number)
        for multiple in range(number * number, limit + 1, number):
            sieve[multiple] = False
{"count": len(primes), "largest": primes[-1], "sum": sum(primes)}
"""

JOIN = """
{"primes": primes, "words": words, "primes_per_word": round(primes["count"] / words, 3), "terms": terms}
"""


#: Long enough for somebody to see it, and for a worker to be killed in the middle.
SLOW = """
import time
time.sleep(1.5)
square = before + number * number
square
"""


@dataclass(frozen=True)
class Scene:
    """One run: what is said about it, and the body of its submission.

    ``killed`` names the process that is killed while the run moves.
    """

    title: str
    body: dict[str, Any]
    killed: str = ""


def scenes(base_dir: Path, address: str) -> list[Scene]:
    """The scenes, for a stack that answers at ``address``."""
    readme = (base_dir / "README.md").read_text()
    return [
        Scene("Read this service's own API description and analyse it", _own_api(address)),
        Scene("Take this project's README apart", _own_readme(readme)),
        Scene("A fixed plan: parallel branches, Python, and a join", _fixed_plan(readme)),
        Scene("A worker is killed in the middle of a run", _sum_of_squares(), killed="worker-compute"),
    ]


def _own_api(address: str) -> dict[str, Any]:
    return {"goal": f"Fetch {address}/api/v1/schema?format=json and query the JSON for '{ANALYSIS}'."}


def _own_readme(readme: str) -> dict[str, Any]:
    goal = (
        "Split README.md into sections, count the words of README.md and list the 5 most frequent terms of README.md."
    )
    return {"goal": goal, "files": {"README.md": readme}}


def _fixed_plan(readme: str) -> dict[str, Any]:
    """Three branches that need nothing of each other, and a step that needs all of them."""
    found = {"primes": "${primes.value}", "words": "${words.words}", "terms": "${terms}"}
    steps = [
        {"key": "primes", "tool": "python.run", "arguments": {"code": SIEVE, "inputs": {"limit": 5000}}},
        {"key": "words", "tool": "text.count", "arguments": {"text": "${input.text}"}},
        {"key": "terms", "tool": "text.top_terms", "arguments": {"text": "${input.text}", "n": 3}},
        {"key": "join", "tool": "python.run", "arguments": {"code": JOIN, "inputs": found}},
    ]
    return {
        "goal": "How do the primes below 5,000 compare with the words of the README?",
        "input": {"text": readme},
        "plan": {"steps": steps, "answer": "${join.value}"},
    }


def _sum_of_squares() -> dict[str, Any]:
    """Steps one after the other, each from what the one before has made."""
    keys = ("one", "two", "three")
    steps = []
    for number, key in enumerate(keys, 1):
        inputs = {"number": number, "before": f"${{{keys[number - 2]}.value}}" if number > 1 else 0}
        steps.append({"key": key, "tool": "python.run", "arguments": {"code": SLOW, "inputs": inputs}})
    return {
        "goal": "Add up the squares of 1, 2 and 3, slowly, whatever happens to the worker.",
        "plan": {"steps": steps, "answer": {"sum": "${three.value}"}},
    }
