"""Secrets enter a call at the last moment, and only one that may have them."""

import pytest

from agentsys.accounts import credentials as vault
from agentsys.accounts.credential_terms import Terms
from agentsys.accounts.models import Credential, Workspace
from agentsys.core import crypto
from agentsys.core.errors import InvalidInput, NotFound, PlanInvalid
from agentsys.infrastructure.sweeper import Sweeper
from agentsys.runs import approvals, blockers, control, credentials, forks, services
from agentsys.runs.forks import Fork
from tests.support import tools
from tests.support.approvals import open_of
from tests.support.canary import CANARY
from tests.support.rows import photograph, sql
from tests.support.web import Web, answer, redirect
from tests.support.worker import events, statuses

OTHER = "another-secret-0123456789"
ALL = Terms(tools=["test.leak", "test.leak_slowly", "test.leak_file", "test.keyed", "test.ship"])


@pytest.fixture(autouse=True)
def _uncalled():
    tools.calls.clear()


@pytest.fixture
def keep(workspace):
    """Enter a secret that all test tools may have, or on other terms."""

    def enter(name="github", secret=CANARY, terms=ALL, where=None):
        return credentials.create((where or workspace).pk, name, secret, terms, user=None)

    return enter


@pytest.fixture
def web(settings):
    with Web() as web:
        settings.HTTP_ALLOW = (web.address,)
        yield web


def leak(key="a", token="${credential.github}", **arguments):
    return {"key": key, "tool": "test.leak", "arguments": {"token": token, **arguments}}


def used(name="leak"):
    return [value for tool, value in tools.calls if tool == name]


def waits(run, key="a"):
    """Asserts that the step waits for a credential; the blocker that says so."""
    run.refresh_from_db()
    step = run.steps.get(key=key)
    assert (step.status, step.reason, step.failures) == ("waiting", "credential", 0)
    (found,) = [one for one in blockers.of(run, live_lanes=["compute", "network"]).found if one.step == key]
    assert found.kind == "credential"
    return found


# --- A call with a secret --------------------------------------------------------------
def test_the_tool_gets_the_secret_and_everybody_else_its_name(submit, worker, keep, step_of):
    keep()
    run = submit([leak(token="Bearer ${credential.github}!")])

    assert worker.finish(run).status == "succeeded"
    assert used() == [f"Bearer {CANARY}!"]
    step = step_of(run, "a")
    assert step.arguments == {"token": "Bearer ${credential.github}!"}
    assert step.output["said"] == "Bearer [redacted]!"


def test_a_tool_may_ask_by_itself_for_what_it_has_declared(submit, worker, keep, step_of):
    keep()
    run = submit(
        [
            {
                "key": "a",
                "tool": "test.keyed",
                "arguments": {"text": "${credential.github} is no reference".replace("$", "$$")},
            }
        ]
    )

    assert worker.finish(run).status == "succeeded"
    assert used("keyed") == [(CANARY, "${credential.github} is no reference")]
    assert step_of(run, "a").output["said"] == "[redacted]"


def test_a_tool_gets_nothing_that_it_has_not_declared(submit, worker, keep, step_of):
    keep()
    keep("other", OTHER)
    run = submit([{"key": "a", "tool": "test.keyed", "arguments": {"other": "other"}}])

    worker.finish(run)
    assert step_of(run, "a").error["code"] == "tool_failed"
    assert "not declared" in step_of(run, "a").error["message"]


def test_two_secrets_in_one_text_both_enter(submit, worker, keep):
    keep()
    keep("other", OTHER)
    worker.finish(submit([leak(token="${credential.other}:${credential.github}")]))

    assert used() == [f"{OTHER}:{CANARY}"]


def test_when_it_was_used_and_by_what_is_known(submit, worker, keep, workspace):
    keep()
    assert Credential.objects.get().used_at is None
    worker.finish(submit([leak()]))

    assert Credential.objects.get().used_at is not None
    assert Credential.objects.get().used_by == "test.leak"


# --- What only looks like a reference -----------------------------------------------------
HOSTILE = [
    "${credential.github}",
    "$${credential.github}",
    "$$${credential.github}",
    {"deep": ["a ${credential.github} b"]},
    {"$credential": "github"},
    "${ credential . github }",
]


@pytest.mark.parametrize("said", HOSTILE, ids=repr)
def test_no_output_of_another_step_becomes_a_secret(submit, worker, keep, said):
    keep()
    page = {"key": "page", "tool": "test.echo", "arguments": {"value": "${input}"}}
    run = submit([page, leak(more=["${page}", "so: ${page}"])], input=said)

    assert worker.finish(run).status == "succeeded"
    (token,), (more,) = used(), used("more")
    assert token == CANARY
    assert more[0] == said
    assert CANARY not in more[1]


def test_no_secret_can_be_put_together_from_several_outputs(submit, worker, keep):
    keep()
    halves = [{"key": k, "tool": "test.echo", "arguments": {"value": f"${{input.{k}}}"}} for k in ("x", "y")]
    run = submit([*halves, leak(more="${x}${y}")], input={"x": "$", "y": "{credential.github}"})

    assert worker.finish(run).status == "succeeded"
    assert used("more") == ["${credential.github}"]


def test_a_call_without_credentials_takes_what_looks_like_one_as_a_text(submit, worker, keep):
    keep()
    worker.finish(submit([leak(token="${input}")], input="${credential.github}"))

    assert used() == ["${credential.github}"]


@pytest.mark.parametrize(
    ("plan", "path", "code"),
    [
        ({"steps": [leak(token="${credential}")]}, "steps[0].arguments.token", "reference_syntax"),
        ({"steps": [leak(token="${credential.a.b}")]}, "steps[0].arguments.token", "reference_syntax"),
        ({"steps": [leak(token="${credential.github | length(@)}")]}, "steps[0].arguments.token", "reference_syntax"),
        ({"steps": [leak()], "answer": "${credential.github}"}, "answer", "credential_misplaced"),
        (
            {"steps": [{"key": "q", "kind": "ask", "arguments": {"question": "is it ${credential.github}?"}}]},
            "steps[0].arguments.question",
            "credential_misplaced",
        ),
        (
            {"steps": [{"key": "d", "kind": "delegate", "objective": "use ${credential.github}"}]},
            "steps[0].objective",
            "credential_misplaced",
        ),
        ({"steps": [{"key": "credential", "tool": "test.echo"}]}, "steps[0].key", "reserved_key"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_at_once(submit, plan, path, code):
    before = photograph()
    with pytest.raises(PlanInvalid) as refused:
        submit(plan=plan)

    assert (path, code) in [(fault["path"], fault["code"]) for fault in refused.value.data["errors"]]
    assert photograph() == before


# --- Waiting for it --------------------------------------------------------------------------
def test_a_step_waits_for_a_missing_credential_and_goes_on_when_it_comes(submit, worker, keep):
    run = submit([leak(), {"key": "b", "tool": "test.echo"}])
    worker.work()
    found = waits(run)

    assert (run.status, run.reason) == ("waiting", "credential")
    assert found.data == {"credentials": ["github"]}
    assert "There is no credential github." in found.message
    assert "PUT /api/v1/credentials/github" in found.unblock
    assert credentials.listed(run.workspace_id) == []
    told = keep()
    assert told.waiting_steps == 0  # nobody's word or sweep is needed
    assert worker.finish(run).status == "succeeded"
    assert used() == [CANARY]
    assert run.steps.get(key="a").attempt == 2
    assert "step.released a" in events(run)


def test_how_many_wait_for_it_is_told(submit, worker, keep, workspace):
    keep(terms=Terms())
    for _ in range(3):
        submit([leak()])
    worker.work()

    assert credentials.get(workspace.pk, "github").waiting_steps == 3


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (Terms(), "may not be given to test.leak"),
        (Terms(tools=["test.leak2", "http.get"]), "may not be given to test.leak"),
        (Terms(tools=["test.leak"], agents=["another"]), "may not be used by the agent assistant"),
    ],
)
def test_a_step_waits_until_it_may_use_it(submit, worker, keep, workspace, terms, why):
    keep(terms=terms)
    run = submit([leak()])
    worker.work()
    assert why in waits(run).message
    assert used() == []

    credentials.change(workspace.pk, "github", None, Terms(tools=["test.leak"], agents=["assistant"]), user=None)
    assert worker.finish(run).status == "succeeded"
    assert used() == [CANARY]


def test_all_that_is_missing_is_told_at_once(submit, worker, keep):
    keep("one", terms=Terms())
    run = submit([leak(token="${credential.one} ${credential.two}")])
    worker.work()

    assert waits(run).data == {"credentials": ["one", "two"]}


def test_the_credentials_of_another_workspace_are_none(submit, worker, keep):
    keep(where=Workspace.objects.create(slug="theirs", name="Theirs"))
    run = submit([leak()])
    worker.work()

    assert "There is no credential github." in waits(run).message


def test_one_that_was_removed_is_waited_for(submit, worker, keep, workspace):
    keep()
    credentials.remove(workspace.pk, "github", user=None)
    run = submit([leak()])
    worker.work()
    waits(run)

    keep(secret=OTHER)
    worker.finish(run)
    assert used() == [OTHER]


def test_the_sweeper_sees_what_the_one_who_changed_it_could_not_do(submit, worker, workspace, keep):
    run = submit([leak()])
    worker.work()
    waits(run)
    vault.create(workspace.pk, "github", CANARY, ALL, user=None)  # as if the process had ended after it
    Sweeper().tick()

    assert worker.finish(run).status == "succeeded"


def test_the_sweeper_leaves_alone_what_waits_in_vain(submit, worker, keep, workspace):
    keep("unrelated")
    run = submit([leak()])
    worker.work()
    waits(run)
    before = photograph()
    Sweeper().tick()

    assert photograph() == before


def test_a_paused_run_stays_paused_when_its_credential_comes(submit, worker, keep):
    run = submit([leak()])
    worker.work()
    control.pause(run)
    keep()
    worker.work()
    assert used() == []

    control.resume(run)
    assert worker.finish(run).status == "succeeded"


def test_a_run_that_waits_can_be_cancelled(submit, worker, keep):
    run = submit([leak()])
    worker.work()
    services.cancel(run)
    keep()

    assert worker.finish(run).status == "cancelled"
    assert used() == []


# --- Where it may go --------------------------------------------------------------------------
def fetch(url, **arguments):
    headers = {"Authorization": "Bearer ${credential.github}"}
    return {"key": "a", "tool": "http.get", "arguments": {"url": url, "headers": headers, **arguments}}


def test_it_goes_to_the_hosts_that_are_named(submit, worker, keep, web, step_of):
    keep(secret=OTHER, terms=Terms(tools=["http.get"], hosts=[web.address]))
    web.pages["/"] = answer(b"hello")
    run = submit([fetch(web.url())])

    assert worker.finish(run).status == "succeeded"
    assert web.seen[0].headers["authorization"] == f"Bearer {OTHER}"


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ([], "{web}"),
        (["api.github.com"], "{web}"),
        (["127.0.0.1"], "{web}"),  # without a port: by https only
        (["127.0.0.1:1"], "{web}"),
        (["{address}"], "http://localhost:{port}/"),
        (["{address}"], "http://evil.example/?{address}"),
        (["{address}"], "http://{address}.evil.example/"),
        (["{address}"], "http://evil.example\\@{address}/"),
        (["api.github.com"], "http://api.github.com/"),
        (["api.github.com"], "https://api.github.com:444/"),
        (["api.github.com"], "https://api.github.com.evil.example/"),
        (["api.github.com"], "https://api.github.comé/"),
    ],
)
def test_it_goes_nowhere_else(submit, worker, keep, web, hosts, url):
    values = {"web": web.url(), "address": web.address, "port": web.port}
    keep(terms=Terms(tools=["http.get"], hosts=[host.format(**values) for host in hosts]))
    run = submit([fetch(url.format(**values))])
    worker.work()

    assert web.seen == []
    run.refresh_from_db()
    step = run.steps.get(key="a")
    assert (step.status, step.reason) in [("waiting", "credential"), ("failed", "")]
    if step.status == "waiting":
        assert "may not go to" in waits(run).message


def test_where_it_may_go_is_asked_of_the_whole_address(submit, worker, keep, web):
    """A secret that is part of the address cannot move it, nor be read from the refusal."""
    keep(secret="evil.example", terms=Terms(tools=["http.get"], hosts=[web.address]))
    run = submit([{"key": "a", "tool": "http.get", "arguments": {"url": "https://${credential.github}/x"}}])
    worker.work()

    assert "[redacted]" in waits(run).message
    assert "evil.example" not in waits(run).message


def test_it_does_not_follow_a_redirect_to_another_host(submit, worker, keep, web, settings):
    with Web() as elsewhere:
        keep(secret=OTHER, terms=Terms(tools=["http.get"], hosts=[web.address]))
        elsewhere.pages["/"] = answer(b"thanks")
        web.pages["/"] = redirect(elsewhere.url())
        settings.HTTP_ALLOW = (web.address, elsewhere.address)
        worker.finish(submit([fetch(web.url())]))

        assert [OTHER in str(seen) or "authorization" in seen.headers for seen in elsewhere.seen] == [False]


def test_it_may_be_part_of_a_query_and_is_masked_in_the_answers_address(submit, worker, keep, web, step_of):
    keep(terms=Terms(tools=["http.get"], hosts=[web.address]))
    web.pages["/"] = answer(b"hello")
    run = submit(
        [{"key": "a", "tool": "http.get", "arguments": {"url": web.url(), "query": {"k": "${credential.github}"}}}]
    )

    assert worker.finish(run).status == "succeeded"
    assert step_of(run, "a").output["url"] == f"{web.url()}?k=[redacted]"


# --- Approvals ------------------------------------------------------------------------------------
def ship(**arguments):
    return {"key": "a", "tool": "test.ship", "arguments": {"token": "${credential.github}", **arguments}}


def test_a_person_approves_the_name_and_the_secret_enters_afterwards(submit, worker, keep):
    keep()
    run = submit([ship()])
    worker.work()
    asked = open_of(run)

    assert asked.arguments == {"token": "${credential.github}"}
    approvals.approve(asked, user=None, digest=asked.digest)
    assert worker.finish(run).status == "succeeded"
    assert used("ship") == [(CANARY, None)]


def test_what_was_approved_may_wait_for_its_credential(submit, worker, keep):
    run = submit([ship()])
    worker.work()
    approvals.approve(open_of(run), user=None)
    worker.work()
    waits(run)

    keep()
    assert worker.finish(run).status == "succeeded"
    assert used("ship") == [(CANARY, None)]
    assert run.approvals.count() == 1


def test_an_edit_keeps_the_credential_and_makes_none_of_what_looks_like_one(submit, worker, keep):
    keep()
    run = submit([ship(note="${input}")], input="pay ${credential.github}")
    worker.work()
    asked = open_of(run)
    assert asked.arguments == {"token": "${credential.github}", "note": "pay $${credential.github}"}

    edited = {**asked.arguments, "token": "v2:${credential.github}"}
    approvals.edit(asked, user=None, arguments=edited)
    assert worker.finish(run).status == "succeeded"
    assert used("ship") == [(f"v2:{CANARY}", "pay ${credential.github}")]


def test_an_edit_gives_a_call_no_other_credential(submit, worker, keep):
    keep()
    keep("other", OTHER)
    run = submit([ship()])
    worker.work()
    before = photograph()
    with pytest.raises(InvalidInput) as refused:
        approvals.edit(open_of(run), user=None, arguments={"token": "${credential.other}"})

    assert "other" in refused.value.data["errors"][0]["message"]
    assert photograph() == before


def test_an_edit_of_a_call_without_credentials_adds_none(submit, worker, keep):
    keep()
    run = submit([ship(token="plain")])
    worker.work()
    approvals.edit(open_of(run), user=None, arguments={"token": "${credential.github}"})

    worker.finish(run)
    assert used("ship") == [("${credential.github}", None)]


# --- Again ---------------------------------------------------------------------------------------------
def test_a_retry_uses_the_secret_of_its_day(submit, worker, keep, workspace):
    keep()
    run = submit([leak(how="raise")])
    worker.finish(run)
    credentials.change(workspace.pk, "github", OTHER, ALL, user=None)
    again, _ = control.retry(run)
    worker.finish(again)

    assert used() == [CANARY, OTHER]


def test_a_fork_replays_a_recorded_call_without_the_secret(submit, worker, keep, workspace):
    keep()
    run = submit([ship(), {"key": "b", "tool": "test.echo", "arguments": {"value": "${a}"}}])
    worker.work()
    approvals.approve(open_of(run), user=None)
    worker.finish(run)
    credentials.remove(workspace.pk, "github", user=None)
    made, _ = forks.fork(run, Fork("a"))

    assert worker.finish(made).status == "succeeded"
    assert used("ship") == [(CANARY, None)]


# --- Keys -------------------------------------------------------------------------------------------------
KEYS = [crypto.derived_key(f"key {n}") for n in range(3)]


def test_a_secret_that_no_key_opens_is_waited_for_and_its_key_brings_it_back(submit, worker, keep, settings):
    settings.VAULT_KEYS = KEYS[:1]
    keep()
    settings.VAULT_KEYS = KEYS[1:2]
    run = submit([leak()])
    worker.work()
    assert "cannot be read with the installation's keys" in waits(run).message
    assert statuses(run) == {"a": "waiting"}

    settings.VAULT_KEYS = [KEYS[1], KEYS[0]]
    assert [done for done, _ in vault.rotate()] == [1]
    Sweeper().tick()
    assert worker.finish(run).status == "succeeded"


def test_a_secret_that_no_key_opens_may_be_entered_anew(submit, worker, keep, settings, workspace):
    settings.VAULT_KEYS = KEYS[:1]
    keep()
    settings.VAULT_KEYS = KEYS[1:2]
    run = submit([leak()])
    worker.work()
    credentials.change(workspace.pk, "github", OTHER, ALL, user=None)

    assert worker.finish(run).status == "succeeded"
    assert used() == [OTHER]


def test_a_ciphertext_opens_in_its_own_row_only(submit, worker, keep):
    keep()
    keep("other", OTHER, Terms(tools=["test.leak"]))
    sql(
        "UPDATE accounts_credential SET ciphertext = (SELECT ciphertext FROM accounts_credential WHERE name = 'github')"
    )
    run = submit([leak(token="${credential.other}")])
    worker.work()

    assert "cannot be read" in waits(run).message


def test_a_removed_name_has_no_secret_any_more(keep, workspace):
    keep()
    credentials.remove(workspace.pk, "github", user=None)

    with pytest.raises(NotFound):
        credentials.get(workspace.pk, "github")
    assert not Credential.objects.exists()
