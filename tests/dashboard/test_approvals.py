"""The inbox: what waits for a person, and the decisions, by the right people and on what they saw."""

import json

import pytest
from django.test import Client

from agentsys.accounts.models import Role, User
from agentsys.runs import approvals, services
from agentsys.runs.models import Approval
from tests.dashboard.conftest import run_url
from tests.support import tools
from tests.support.approvals import ask, open_of, wire, wired
from tests.support.rows import photograph

INBOX = "/admin/runs/approval/inbox/"
#: What is posted for each decision, beside the digest.
POSTED = {"approve": {}, "edit": {"typed": '{"to": "eve"}'}, "deny": {"reason": "no"}, "answer": {"typed": "7"}}


@pytest.fixture(autouse=True)
def _uncalled():
    tools.calls.clear()


@pytest.fixture
def asked(submit, worker):
    run = submit([wire(), ask(schema={"type": "integer"})], goal="Pay the bill")
    worker.work()
    return run


@pytest.fixture
def operator(staff):
    return staff(Role.OPERATOR)


def page_of(one):
    return f"/admin/runs/approval/{one.pk}/change/"


def fitting(run, word):
    return open_of(run, "who" if word == "answer" else "pay")


def post(browser, one, word, **data):
    return browser.post(f"/admin/runs/approval/{one.pk}/{word}/", **{"digest": one.digest, **POSTED[word], **data})


def forms(page):
    return {form.attributes["action"].split("/")[-2] for form in page.css("form[action*='/admin/runs/approval/']")}


def test_the_inbox_shows_what_is_asked_and_how_to_decide_it(operator, asked):
    page = operator.page(INBOX)

    pay, who = (page.css_first(f"#approval-{open_of(asked, key).pk}") for key in ("pay", "who"))
    assert json.loads(pay.css_first("pre").text()) == {"to": "bob"}
    assert "test.wire" in pay.text()
    assert "Waits for" in pay.text()
    assert "Expires in" in pay.text()
    assert pay.css_first(f"a[href='{run_url(asked)}']")
    assert (forms(pay), forms(who)) == ({"approve", "edit", "deny"}, {"answer", "deny"})
    assert "Who?" in who.text()


def test_what_is_decided_leaves_the_inbox_and_stays_in_the_list(operator, asked):
    one = open_of(asked, "pay")
    approvals.deny(one, user=None, reason="Too much")

    assert not operator.page(INBOX).css(".as-alert")
    listed = operator.page("/admin/runs/approval/").css_first("#result_list").text()
    assert "deny" in listed
    assert "cancelled" in listed
    page = operator.page(page_of(one))
    assert "Too much" in page.text()
    assert forms(page) == set()


def test_a_long_inbox_is_bounded_and_costs_one_query(operator, submit, worker, django_assert_max_num_queries):
    for _ in range(35):
        submit([wire()])
    worker.work()

    with django_assert_max_num_queries(12):
        page = operator.page(INBOX)

    assert len(page.css("section.as-alert")) == 30
    assert "There are more" in page.text()


@pytest.mark.parametrize("word", POSTED)
@pytest.mark.parametrize("inbox", [True, False])
def test_each_decision_is_taken_through_the_service(operator, asked, word, inbox):
    one = fitting(asked, word)

    answer = post(operator, one, word, **({"inbox": "1"} if inbox else {}))

    assert (answer.status_code, answer.headers["Location"]) == (302, INBOX if inbox else run_url(asked))
    one.refresh_from_db()
    assert (one.decision, one.decided_by) == (word, User.objects.get())
    if word == "answer":
        assert one.answer == 7


def test_an_edited_call_is_made_as_it_was_typed(operator, asked, worker):
    post(operator, open_of(asked, "pay"), "edit", typed='{"to": "${who}", "note": ["é\\u202e", 1e22]}')
    post(operator, open_of(asked, "who"), "answer")

    worker.finish(asked)

    assert wired() == [{"to": "${who}", "amount": 1.0, "note": ["é\u202e", 10**22]}]


@pytest.mark.parametrize(
    ("schema", "typed", "said"),
    [
        (None, 'He said "hi"\r\n{x}', 'He said "hi"\n{x}'),
        (None, "", ""),
        ({"type": "string"}, "42", "42"),
        ({"enum": ["red", "blue"]}, "blue", "blue"),
        ({"enum": [1, 2]}, "2", 2),
        ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
    ],
)
def test_an_answer_is_text_or_json_as_the_question_has_it(operator, submit, worker, schema, typed, said):
    run = submit([ask(schema=schema)])
    worker.work()

    post(operator, open_of(run), "answer", typed=typed)

    run.refresh_from_db()
    assert run.result == {"who": said}


BAD = {
    "no JSON": ("edit", {"typed": "{to: eve}"}, "not JSON"),
    "deep": ("edit", {"typed": "[" * 100_000}, "not JSON"),
    "empty": ("edit", {"typed": ""}, "required"),
    "wrong arguments": ("edit", {"typed": '{"to": 3}'}, "arguments.to"),
    "no object": ("edit", {"typed": "[1]"}, "must be an object"),
    "unchanged": ("edit", {"typed": '{"to": "bob"}'}, "approve them instead"),
    "NUL": ("edit", {"typed": '{"to": "a\\u0000"}'}, "NUL"),
    "half a character": ("edit", {"typed": '{"to": "\\ud800"}'}, "surrogate"),
    "no number": ("edit", {"typed": '{"to": "a", "note": NaN}'}, "endless"),
    "long reason": ("deny", {"reason": "x" * 2001}, "at most 2000"),
    "answer of another type": ("answer", {"typed": '"seven"'}, "not of type"),
    "answer that is no JSON": ("answer", {"typed": "seven"}, "not JSON"),
    "no digest": ("approve", {"digest": ""}, "required"),
}


@pytest.mark.parametrize(("word", "data", "told"), BAD.values(), ids=BAD)
def test_what_does_not_fit_comes_back_and_changes_nothing(operator, asked, word, data, told):
    before = photograph()

    answer = post(operator, fitting(asked, word), word, **data)

    assert answer.status_code == 422
    assert told in answer.content.decode()
    assert photograph() == before


def test_what_was_typed_is_not_lost(operator, asked):
    answer = post(operator, open_of(asked, "pay"), "edit", typed='{"to": "</textarea><b>eve", }')

    assert "&lt;/textarea&gt;&lt;b&gt;eve" in answer.content.decode()


@pytest.mark.parametrize("word", POSTED)
def test_a_decision_that_comes_too_late_says_so_and_changes_nothing(operator, asked, word):
    one = fitting(asked, word)
    services.cancel(asked)
    before = photograph()

    answer = operator.client.post(
        f"/admin/runs/approval/{one.pk}/{word}/", {"digest": one.digest, **POSTED[word]}, follow=True
    )

    assert "run has finished" in answer.content.decode()
    assert photograph() == before


@pytest.mark.parametrize("word", POSTED)
def test_a_decision_on_another_digest_changes_nothing(operator, asked, word):
    before = photograph()

    post(operator, fitting(asked, word), word, digest="0" * 64)

    assert photograph() == before
    assert "digest" in operator.page(run_url(asked)).text()


@pytest.mark.parametrize("word", POSTED)
def test_a_viewer_sees_and_does_not_decide(staff, asked, word):
    viewer, one = staff(Role.VIEWER), fitting(asked, word)
    before = photograph()

    for url in (INBOX, page_of(one)):
        page = viewer.page(url)
        assert forms(page) == set()
        assert page.css_first(f"#approval-{one.pk}")
    assert post(viewer, one, word).status_code == 403
    assert photograph() == before


@pytest.mark.parametrize("word", POSTED)
def test_for_a_stranger_there_is_nothing(staff, asked, elsewhere, word):
    stranger, one = staff(Role.ADMIN, elsewhere), fitting(asked, word)
    before = photograph()

    assert not stranger.page(INBOX).css("section.as-alert")
    assert stranger.get(page_of(one)).status_code == 302
    assert post(stranger, one, word).status_code == 404
    assert photograph() == before


@pytest.mark.parametrize("word", POSTED)
def test_a_form_from_another_site_or_a_mere_visit_decides_nothing(asked, make_user, word):
    make_user("carla", Role.OPERATOR)
    User.objects.filter(username="carla").update(is_staff=True)
    client, one = Client(enforce_csrf_checks=True), fitting(asked, word)
    client.force_login(User.objects.get(username="carla"))
    url = f"/admin/runs/approval/{one.pk}/{word}/"
    before = photograph()

    assert client.post(url, {"digest": one.digest, **POSTED[word]}).status_code == 403
    assert client.get(url).status_code == 405
    assert photograph() == before


def test_the_run_and_the_overview_lead_to_what_waits(operator, staff, asked):
    links = [page_of(open_of(asked, key)) for key in ("pay", "who")]

    for url in (run_url(asked), run_url(asked, "live"), "/admin/"):
        page = operator.page(url)
        assert all(page.css(f"a[href='{link}']") for link in links), url
    assert "Look at it" in staff(Role.VIEWER).page(run_url(asked)).text()
    services.cancel(asked)
    assert not operator.page(run_url(asked)).css("a[href*='/admin/runs/approval/0']")


def test_what_is_not_shown_whole_is_not_decided_there(operator, submit, worker):
    """The inbox leads to the page, the page to REST."""
    long, endless = (submit([wire(arguments={"note": ["x" * 50] * n})]) for n in (1_000, 5_000))
    worker.work()

    assert forms(operator.page(INBOX)) == set()
    assert forms(operator.page(page_of(open_of(long)))) == {"approve", "edit", "deny"}
    page = operator.page(page_of(open_of(endless)))
    assert forms(page) == set()
    assert "by REST" in page.text()


def test_the_terms_of_an_agent_are_edited_in_its_form(staff, agent):
    author = staff(Role.AUTHOR)
    url = f"/admin/agents/agent/{agent.pk}/change/"
    fields = {"name": "A", "mode": "plan", "versions-TOTAL_FORMS": "0", "versions-INITIAL_FORMS": "0"}

    assert "no tool named" in author.post(url, **fields, approvals='{"tools": ["no.such"]}').content.decode()
    author.post(url, **fields, approvals='{"tools": "all"}')

    agent.refresh_from_db()
    assert agent.current_version.approvals == {"tools": "all"}
    assert "all" in author.page(url).text()
    assert Approval.objects.count() == 0


def test_a_person_is_told_why_they_are_asked(operator, submit, worker):
    page = {"key": "page", "tool": "test.page", "arguments": {"text": "hello"}}
    run = submit([page, {"key": "send", "tool": "test.send", "arguments": {"to": "ada", "text": "${page.text}"}}])
    worker.work()
    shown = operator.page(page_of(open_of(run, "send"))).text()
    assert "Asked because" in shown
    assert "text comes from web" in shown
