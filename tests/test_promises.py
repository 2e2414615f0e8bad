"""Each promise of the README has tests that name it, and the README names where they are.

A test says ``@pytest.mark.promise("P5")``.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parent
README = (TESTS.parent / "README.md").read_text()
#: The engine's; those between are of other parts of the house (audit, deployments).
PROMISES = [f"P{n}" for n in (*range(1, 20), 22)]
ROW = re.compile(r"^\| (P\d+) \| .+ \| (.+) \|$", re.MULTILINE)


def proofs() -> dict[str, set[str]]:
    """Files with a test that names a promise, by promise."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in _named(node):
                    found[name].add(str(path.relative_to(TESTS)))
    return found


def _named(test: ast.FunctionDef) -> list[str]:
    calls = [one for one in test.decorator_list if isinstance(one, ast.Call)]
    named = [one for one in calls if ast.unparse(one.func) == "pytest.mark.promise"]
    return [argument.value for one in named for argument in one.args if isinstance(argument, ast.Constant)]


def listed() -> dict[str, set[str]]:
    """What the README's table says of it."""
    return {name: set(re.findall(r"`([\w/]+\.py)`", tests)) for name, tests in ROW.findall(README)}


def not_yet() -> set[str]:
    """What the README says is not there yet."""
    return set(re.findall(r"\bP\d+\b", README.partition("Not there yet:")[2].partition("\n\n")[0]))


def test_each_promise_is_in_the_readme_or_said_not_to_be_kept_yet():
    assert sorted({*listed(), *not_yet()}) == sorted(PROMISES)
    assert not listed().keys() & not_yet()


def test_each_promise_has_the_tests_that_the_readme_says():
    assert {name: sorted(files) for name, files in listed().items()} == {
        name: sorted(files) for name, files in proofs().items()
    }
