"""Rules of the house that linters cannot state; each message says what to do instead."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted(
    path
    for folder in ("agentsys", "workers")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
EDGES = {"api", "dashboard", "observability"}
BELOW_EDGES = [
    path
    for path in CODE
    if len(parts := path.relative_to(ROOT).parts) > 2 and parts[0] == "agentsys" and parts[1] not in EDGES
]
WEB = ("django.http", "django.shortcuts", "django.contrib.admin", "django.views", "django.urls")
#: Celery features whose work is the engine's; see ENGINE, "What Celery does".
BANNED = re.compile(
    r"\b(countdown|eta|autoretry_for|link_error|chord|apply_async)\s*=|\bself\.retry\(|\b(chord|chain|group)\("
    r"|task_always_eager|ALWAYS_EAGER|\bexchange=|\brouting_key=|control\.revoke\(|beat_schedule|result_backend\s*=\s*[^N]"
)
SQL = re.compile(
    r"\b(INSERT INTO \w+|DELETE FROM \w+|UPDATE \w+ SET|SELECT .+ FROM (runs|accounts|agents|infra)\w+)\b", re.DOTALL
)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


@pytest.mark.parametrize("path", BELOW_EDGES, ids=name_of)
def test_below_the_edges_nobody_knows_the_web(path):
    wrong = [name for name, _ in imports(ast.parse(path.read_text())) if name.startswith(WEB)]
    assert not wrong, f"{name_of(path)} imports {wrong}: pass plain values in, and let api or dashboard know the web"


#: The catalogue of errors is one list, however long.
LISTS = {"agentsys/core/errors.py"}


@pytest.mark.parametrize("path", [path for path in CODE if name_of(path) not in LISTS], ids=name_of)
def test_a_file_has_one_subject(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 300, f"{name_of(path)} has {lines} lines: split it by subject (300 at most)"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_functions_stay_small(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= 40, f"{name_of(path)}: {node.name} has {lines} lines: give its parts names (40 at most)"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_waits_and_chains_are_the_engines_not_celerys(path):
    found = BANNED.search(path.read_text())
    assert not found, f"{name_of(path)} says {found and found.group()!r}: waits, retries and order live in PostgreSQL"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_sql_lives_in_named_files(path):
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        n.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    ]
    found = [text for text in texts if SQL.search(text)]
    assert not found, (
        f"{name_of(path)} has SQL in a string: move it to <app>/sql/*.sql with a name, its edge and its locks"
    )


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_module_collects_leftovers_or_listens_unseen(path):
    assert path.stem not in {"utils", "helpers", "signals", "misc"}, "name the module after its subject"


def test_every_room_of_the_engine_is_on_its_map():
    """A map that leaves rooms out leads nobody: name a new module in agentsys/runs/README.md."""
    runs = ROOT / "agentsys" / "runs"
    rooms = {path.stem for path in (*runs.glob("*.py"), *(runs / "store").glob("*.py"))} - {"__init__", "apps"}
    named = set(re.findall(r"\w+", (runs / "README.md").read_text()))
    assert rooms <= named, f"not on the map: {sorted(rooms - named)}"


def test_a_web_process_never_loads_a_model_provider():
    code = (
        "import django; django.setup();"
        "import agentsys.urls, agentsys.agents.planner, agentsys.runs.services, sys;"
        "from agentsys.tools import registry; registry.load();"
        "heavy = ('pydantic_ai', 'openai', 'anthropic', 'celery', 'duckdb', 'pypdf', 'mcp');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "providers come by a dotted name when a worker starts"


SQL_FILES = sorted((ROOT / "agentsys").rglob("*.sql"))
CTE = re.compile(r"\b(\w+) AS ((?:NOT )?MATERIALIZED )?\(")


def ctes(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, word (MATERIALIZED or none) and body of every CTE of a file, without comments."""
    text = re.sub(r"--[^\n]*", "", text)
    for found in CTE.finditer(text):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield found[1], (found[2] or "").strip(), text[found.end() : end - 1]


@pytest.mark.parametrize("path", SQL_FILES, ids=name_of)
def test_a_few_rows_that_are_locked_are_chosen_once(path):
    wrong = [
        name
        for name, word, body in ctes(path.read_text())
        if body.lstrip().startswith("SELECT") and "SKIP LOCKED" in body and "LIMIT" in body and word != "MATERIALIZED"
    ]
    assert not wrong, (
        f"{name_of(path)}: {wrong} must be MATERIALIZED.  Up to PostgreSQL 18 no CTE that locks is inlined; where one "
        "was, LIMIT with SKIP LOCKED would be run again for each row of the other side, and lock more than it says"
    )
