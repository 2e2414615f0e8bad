"""Python that anybody may have written."""

import os
import time
from pathlib import Path

import psutil
import pytest

from agentsys.core.errors import (
    AgentSysError,
    LeaseLost,
    StepTimeout,
    ToolArgumentsInvalid,
    ToolFailed,
    ToolOutputTooLarge,
)
from agentsys.tools import registry, runner
from agentsys.tools.builtin import sandbox
from agentsys.tools.testing import MemoryFiles, context


@pytest.mark.parametrize(
    ("code", "inputs", "value", "stdout"),
    [
        ("sum(range(10))", None, 45, ""),
        ("print('hi')\nlen(data)", {"data": [1, 2]}, 2, "hi\n"),
        ("result = {'a': [1, None, True]}", None, {"a": [1, None, True]}, ""),
        ("x = 1", None, None, ""),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(10)", {}, 3_628_800, ""),
        ("import json, math\njson.loads('[1]')[0] + math.floor(2.5)", None, 3, ""),
        ("{1: (2, 3)}, {4}, b'x', float('nan'), '\\x00'", None, [{"1": [2, 3]}, [4], "x", None, "\ufffd"], ""),
        ("sorted(rows, key=lambda row: -row['n'])[0]['n']", {"rows": [{"n": 1}, {"n": 3}]}, 3, ""),
    ],
)
def test_code_runs_and_gives_its_value_and_what_it_printed(call, code, inputs, value, stdout):
    assert call("python.run", code=code, inputs=inputs) == {"value": value, "stdout": stdout}


def test_runs_know_nothing_of_each_other(call):
    call("python.run", code="secret = 1")
    with pytest.raises(ToolFailed, match="NameError"):
        call("python.run", code="secret")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "failed"),
        ("undefined", "NameError"),
        ("raise ValueError('mine')", "mine"),
        ("import socket", "ModuleNotFoundError"),
        ("import subprocess", "ModuleNotFoundError"),
        ("open('/etc/passwd').read()", "Permission"),
        ("from pathlib import Path\nPath('/etc/passwd').read_text()", "failed"),
        ("import os\nos.environ['PATH']", "failed"),
        ("import os\nos.system('id')", "failed"),
        ("().__class__.__base__.__subclasses__()", "failed"),
        ("__import__('os').getcwd() + 1", "failed"),
        ("def f(): return f()\nf()", "RecursionError"),
    ],
)
def test_what_fails_or_reaches_out_says_so(call, code, message):
    with pytest.raises(ToolFailed, match=message):
        call("python.run", code=code)


def test_a_failure_shows_the_line_and_what_was_printed(call):
    with pytest.raises(ToolFailed) as caught:
        call("python.run", code="print('before')\n1 / 0")
    assert "line 2" in caught.value.data["traceback"]
    assert caught.value.data["stdout"] == "before\n"


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(100)",
        "while True: print('x' * 1000)",
        "import re\nre.match('(a+)+$', 'a' * 5000 + 'b')\nwhile True: pass",
    ],
    ids=["loop", "sleep", "print", "regex"],
)
def test_time_is_limited(call, code):
    began = time.monotonic()
    with pytest.raises(ToolFailed, match="TimeoutError"):
        call("python.run", code=code, max_seconds=0.3)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "code",
    [
        "x = 'a' * 10**10",
        "x = []\nwhile True: x.append('a' * 1000)",
        "10 ** 10 ** 8",
        "[0] * 10**9",
        "bytearray(10**9)",
    ],
)
def test_memory_is_limited(call, code):
    with pytest.raises(ToolFailed):
        call("python.run", code=code, max_memory_mb=16)
    assert call("python.run", code="1 + 1")["value"] == 2


def test_what_is_printed_is_cut_off_without_failing(call):
    result = call("python.run", code="for n in range(3000): print('x' * 100)\n'done'")
    assert result["value"] == "done"
    assert len(result["stdout"]) < sandbox.MAX_STDOUT_CHARS + 100
    assert result["stdout"].endswith("(cut off)")


def test_a_value_too_large_or_too_deep_is_refused(call):
    for code in ("'x' * 2_000_000", "a = []\nfor n in range(500): a = [a]\na"):
        with pytest.raises(ToolOutputTooLarge):
            call("python.run", code=code)


@pytest.mark.parametrize(
    "arguments",
    [
        {"code": ""},
        {"code": "x" * 50_001},
        {"code": 5},
        {"code": "1", "inputs": []},
        {"code": "1", "max_seconds": 21},
        {"code": "1", "max_seconds": 0},
        {"code": "1", "max_memory_mb": 10_000},
    ],
)
def test_arguments_are_checked(call, arguments):
    with pytest.raises(ToolArgumentsInvalid):
        call("python.run", **arguments)


@pytest.mark.parametrize("name", ["a b", "", "1x", "x;y"])
def test_names_of_inputs_are_names(call, name):
    with pytest.raises(ToolFailed, match="name of a variable"):
        call("python.run", code="1", inputs={name: 1})


def test_the_steps_deadline_shortens_the_limit():
    spec = registry.get("python.run")
    began = time.monotonic()
    with pytest.raises(ToolFailed, match="TimeoutError"):
        runner.run(spec, {"code": "while True: pass"}, context(deadline_at=time.monotonic() + 0.3))
    with pytest.raises(StepTimeout):
        runner.run(spec, {"code": "1"}, context(deadline_at=time.monotonic() - 1))
    assert time.monotonic() - began < 4


def test_a_sandbox_that_is_killed_is_replaced(call):
    call("python.run", code="1")
    workers = [child for child in psutil.Process().children() if "monty" in child.name()]
    assert workers
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=5)

    outcomes = [_value_or_code(call, "1 + 1") for _ in range(len(workers) + 1)]
    assert outcomes[-1] == 2
    assert set(outcomes) <= {2, "tool_failed"}


def _value_or_code(call, code: str) -> object:
    try:
        return call("python.run", code=code)["value"]
    except AgentSysError as error:
        return error.code


def test_a_process_forked_from_one_with_a_sandbox_says_so_instead_of_hanging(call):
    call("python.run", code="1")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # no pytest in here: nothing but the one call and the way out
        try:
            os.write(writer, str(_value_or_code(call, "1")).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)

    assert os.read(reader, 100) == b"tool_unavailable"
    os.close(reader)
    assert call("python.run", code="20 + 2")["value"] == 22


def test_the_sandbox_sees_no_file_of_this_machine(call, tmp_path: Path):
    (tmp_path / "secret").write_text("s")
    with pytest.raises(ToolFailed):
        call("python.run", code=f"open({str(tmp_path / 'secret')!r}).read()")


# --- The run's files ---------------------------------------------------------------------
def python(call, code: str, **arguments):
    return call("python.run", code=code, **arguments)["value"]


def test_code_reads_writes_and_lists_the_runs_files(call, files):
    files.write("a.csv", "n\n1\n2\n")
    code = """
rows = [int(line) for line in read_file('a.csv').splitlines()[1:]]
write_file('sum.txt', str(sum(rows)))
write_file('raw', b'\\x00\\xff')
[read_file('sum.txt'), list(read_file('raw', binary=True)), [f['name'] for f in list_files()], list_files()[0]['size']]
"""
    assert python(call, code) == ["3", [0, 255], ["a.csv", "raw", "sum.txt"], 6]
    assert (files.contents["sum.txt"], files.contents["raw"]) == (b"3", b"\0\xff")


def test_code_that_fails_has_written_nothing(call, files):
    with pytest.raises(ToolFailed, match="ZeroDivisionError"):
        python(call, "write_file('f', 'x')\n1 / 0")
    with pytest.raises(ToolFailed):
        python(call, "write_file('f', 'x')\nwhile True: pass", max_seconds=0.3)
    assert files.contents == {}


def test_what_is_wrong_with_a_file_is_an_exception_that_code_may_catch(call, files):
    files.write("binary", b"\xff\xfe")
    code = "try:\n    {}\n    r = 'none'\nexcept {} as e:\n    r = str(e)\nr"
    assert "no file named" in python(call, code.format("read_file('nothing')", "FileNotFoundError"))
    assert "not UTF-8" in python(call, code.format("read_file('binary')", "ValueError"))
    for name in ("'../a'", "'/etc/passwd'", "''", "'.'", "'a\\n'", "'a\\0'", "'x' * 256", "5", "None"):
        assert "name" in python(call, code.format(f"write_file({name}, 'x')", "ValueError")), name
    assert "text or bytes" in python(call, code.format("write_file('f', 5)", "TypeError"))
    assert "text" in python(call, code.format("read_file(5)", "TypeError"))
    for wrong in ("read_file()", "write_file('f')", "list_files(1)", "read_file('a', nothing=1)"):
        with pytest.raises(ToolFailed, match="TypeError"):
            python(call, wrong)
    assert set(files.contents) == {"binary"}


@pytest.mark.parametrize(
    "code",
    [
        "write_file('f', 'x' * 10_000_001)",
        "for n in range(300): write_file(f'f{n}', 'x')",
        "for n in range(10): write_file(f'f{n}', 'x' * 9_000_000)",
        "for n in range(20_000): list_files()",
        "for n in range(100): read_file('large')",
    ],
)
def test_files_of_code_are_bounded(call, files, code):
    files.write("large", "x" * 5_000_000)
    with pytest.raises(ToolFailed, match="OSError"):
        python(call, code, max_memory_mb=256, max_seconds=20)
    assert set(files.contents) == {"large"}


def test_a_lost_lease_is_the_steps_fault_whatever_the_code_makes_of_it():
    class Lost(MemoryFiles):
        def read(self, name):
            raise LeaseLost("taken")

    spec = registry.get("python.run")
    for code in ("read_file('f')", "try:\n    read_file('f')\nexcept Exception:\n    pass\n1"):
        with pytest.raises(LeaseLost):
            runner.run(spec, {"code": code}, context(files=Lost()))


def test_an_input_may_have_the_name_of_a_function_for_files(call):
    assert python(call, "read_file", inputs={"read_file": 1}) == 1
