"""What a model's turns cost beside the model: time of each, and what a long row of them stores and sends."""

import statistics
import time
from collections.abc import Iterator

import openai
import psycopg
import pytest

from agentsys.infrastructure.embedded import Postgres, scratch
from agentsys.llm import scripted
from tests.support.agent_stack import Stack, observed, running

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
CALLS, TURNS = 60, 100
#: What a step takes beyond a bare call of the provider's library, in times of that, which is 1.5 ms: about 15 ms.
MOST_BEYOND = 10.0
#: Twice the turns store no more than this times as much, and send no more than this a call.
LINEAR, LEVEL = 2.5, 1.2
TOOK = """
SELECT extract(epoch FROM a.ended_at - a.started_at) * 1e3, c.took_s * 1e3
  FROM runs_attempt a JOIN runs_modelcall c ON c.step_id = a.step_id AND c.attempt = a.number
 ORDER BY a.id DESC LIMIT %s"""
KEPT = """
SELECT (SELECT coalesce(sum(pg_column_size(c)), 0) FROM runs_modelcall c WHERE run_id = %(run)s)
     + (SELECT coalesce(sum(pg_column_size(e)), 0) FROM runs_event e WHERE run_id = %(run)s)
     + (SELECT coalesce(sum(pg_column_size(s)), 0) FROM runs_step s WHERE run_id = %(run)s)
     + (SELECT coalesce(sum(p.size_bytes), 0) FROM runs_payload p JOIN runs_payloaduse u ON u.payload_id = p.id
         WHERE u.run_id = %(run)s)"""


@pytest.fixture(scope="module")
def db() -> Iterator[psycopg.Connection]:
    with scratch() as folder:
        postgres = Postgres(folder / "pg")
        with psycopg.connect(postgres.start(), autocommit=True) as connection:
            yield connection
        postgres.stop()


@pytest.fixture(scope="module")
def stack(db: psycopg.Connection) -> Iterator[Stack]:
    info = db.info
    with running(
        DATABASE_URL=f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
    ) as made:
        yield made


def bare_ms(stack: Stack) -> float:
    """What one call costs by the provider's library, with a connection that is kept."""
    with openai.OpenAI(base_url=stack.model.url, api_key="k", max_retries=0) as client:
        took = []
        for _ in range(CALLS):
            begun = time.perf_counter()
            said = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
            assert "".join(piece.choices[0].delta.content or "" for piece in said if piece.choices) == "ok"
            took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


def test_a_models_step_takes_little_time_beside_the_call(stack: Stack, db: psycopg.Connection) -> None:
    stack.model.answer = lambda request: scripted.text("ok")
    say = {"steps": [{"key": "a", "kind": "answer", "objective": "Say ok."}], "answer": "${a}"}
    for _ in range(CALLS):
        stack.ended(stack.call("POST", "runs", json={"agent": "assistant", "plan": say})["id"])
    rows = db.execute(TOOK, [CALLS - 10]).fetchall()  # without the first, which load
    step, call = (statistics.median(float(row[n]) for row in rows) for n in (0, 1))
    bare = bare_ms(stack)
    print(f"\na model's step: {step:.1f} ms, of these its call {call:.1f}; a bare call {bare:.1f}", end="")
    assert step - bare <= MOST_BEYOND * bare


def test_twice_the_turns_store_twice_as_much_and_a_late_call_sends_no_more_than_an_early_one(stack, db) -> None:
    half, (kept, sent) = turns_of(stack, db, TURNS // 2)[0], turns_of(stack, db, TURNS)
    curve = [round(statistics.mean(sent[n : n + 10]) / 1e3) for n in range(0, TURNS, 10)]
    print(f"\n{TURNS // 2} turns keep {half / 1e3:.0f} KB, {TURNS} keep {kept / 1e3:.0f}; KB a call: {curve}", end="")
    assert kept <= LINEAR * half
    assert statistics.mean(sent[-10:]) <= LEVEL * max(sent[: TURNS // 2])


def turns_of(stack: Stack, db: psycopg.Connection, turns: int) -> tuple[int, list[int]]:
    """What a run of so many turns stores in all, in bytes, and what each of its calls sends."""
    stack.model.requests.clear()
    text = "all work and no play " * 60

    def think(messages):
        n = len(stack.model.requests)
        last = observed(messages)
        assert not last or '"error"' not in last[-1], last
        return scripted.text("done") if n > turns else scripted.call("text__count", {"text": f"{n} {text}"})

    stack.thinks(think)
    agent = f"turns-{turns}"
    planning = {"max_turns": TURNS}
    stack.call("POST", "agents", json={"slug": agent, "name": agent, "mode": "react", "planning": planning})
    run = stack.ended(
        stack.call("POST", "runs", json={"agent": agent, "goal": "Count.", "limits": {"steps": 1000}})["id"]
    )
    assert run["status"] == "succeeded", (run["error"], run["usage"])
    row = db.execute(KEPT, {"run": run["id"]}).fetchone()
    assert row is not None
    return int(row[0]), [len(str(request)) for request in stack.model.requests]
