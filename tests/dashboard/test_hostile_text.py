"""Whatever a run says is shown as text: bounded, escaped, and without characters that play tricks."""

import pytest

from agentsys.agents.models import Agent
from agentsys.core.errors import InvalidInput
from agentsys.infrastructure.models import Worker
from agentsys.runs.models import Run
from tests.dashboard.conftest import echo, run_url

MARKUP = (
    "<script>alert(1)</script><img src=x onerror=alert(2)></pre></textarea></title></svg>"
    "{{ 7|add:7 }}{% now 'Y' %}&amp;"
)
TRICKS = "\u202egnp.exe\u202c \x07\x1b[31m\ufeff\u2066x\u2069"
HUGE = "A" * 300_000
WEIRD = "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L 👩‍👩‍👧‍👦 ﷽ اختبار \U0010ffff"
#: Scripts of the page's own, by their source.
OWN = ("/static/", "/admin/jsi18n/")


@pytest.fixture(params=[MARKUP, TRICKS, WEIRD, HUGE], ids=["markup", "tricks", "weird", "huge"])
def hostile_run(request, submit, worker) -> Run:
    said = request.param
    run = submit(
        [
            echo("ok", said, title=said[:200]),
            {
                "key": "bad",
                "tool": "test.fail",
                "arguments": {"message": said},
                "title": said[:200],
                "on_error": "continue",
            },
        ],
        goal=said[:20_000],
        labels={"label": said[:200]},
        input={said[:100]: said},
        files={_file_name(said): said.encode()},
        answer={said[:50]: "${ok}"},
    )
    return worker.finish(run)


def _file_name(said: str) -> str:
    return "".join(char for char in said if char.isprintable() and char not in "/\\")[:200]


def pages(run: Run) -> list[str]:
    steps = [f"/admin/runs/step/{step.pk}/change/" for step in run.steps.all()]
    files = [f"/admin/runs/runfile/{file.pk}/change/" for file in run.files.all()]
    lists = [f"/admin/runs/{name}/" for name in ("run", "step", "attempt", "event", "runfile")]
    return ["/admin/", run_url(run), run_url(run, "live"), *steps, *files, *lists]


def test_no_page_runs_or_renders_what_a_run_says(superuser, hostile_run):
    for url in pages(hostile_run):
        page = superuser.page(url)

        scripts = [script.attributes.get("src") or "" for script in page.css("script")]
        assert all(source.startswith(OWN) for source in scripts), url
        assert not page.css("[onerror], [onload], [onclick], img, iframe, object, embed"), url
        assert "alert(" not in "".join(script.text() for script in page.css("script")), url
        addresses = [link.attributes.get("href") or "" for link in page.css("[href]")]
        assert all(address.startswith(("/", "#", "?")) or not address for address in addresses), (url, addresses)
        assert not page.css("form[action^=http]"), url


@pytest.fixture(params=[MARKUP, TRICKS, WEIRD, HUGE], ids=["markup", "tricks", "weird", "huge"])
def hostile_questions(request, submit, worker) -> list[str]:
    """Pages on which something hostile asks to be approved, or answered."""
    said = request.param
    asked = [
        echo("call", {said[:100]: [said]}, approval=True),
        {"key": "who", "kind": "ask", "arguments": {"question": said[:20_000], "schema": {"title": said[:1000]}}},
    ]
    run = submit(asked, goal=said[:20_000])
    worker.work()
    ids = run.approvals.values_list("pk", flat=True)
    pages = [f"/admin/runs/approval/{pk}/change/" for pk in ids]
    return ["/admin/runs/approval/inbox/", "/admin/runs/approval/", run_url(run), "/admin/", *pages]


def test_what_asks_to_be_approved_is_text_too(superuser, hostile_questions):
    for url in hostile_questions:
        page = superuser.page(url)

        assert not page.css("[onerror], [onload], [onclick], #content img, iframe, object, embed"), url
        assert "alert(" not in "".join(script.text() for script in page.css("script")), url
        forms = [form.attributes.get("action") or "/" for form in page.css("form")]
        assert all(action.startswith(("/", "?")) for action in forms), (url, forms)
        assert not set(page.text()) & set("\u202e\u202c\u2066\u2069\ufeff\x07\x1b"), url
        assert len(superuser.get(url).content) < 400_000, url


def test_no_character_turns_or_hides_what_follows_it(superuser, hostile_run):
    for url in pages(hostile_run):
        text = superuser.page(url).text()

        assert not set(text) & set("\u202e\u202c\u2066\u2069\ufeff\x07\x1b"), url


def test_no_page_grows_with_what_a_run_says(superuser, hostile_run):
    for url in pages(hostile_run):
        assert len(superuser.get(url).content) < 400_000, url


def test_what_is_cut_says_so(superuser, submit, worker):
    run = worker.finish(submit([echo("a", HUGE)]))

    assert "more characters" in superuser.page(run_url(run)).css_first("#result").text()


def test_a_file_comes_as_a_download_that_no_browser_renders(superuser, submit):
    content = b"<!doctype html><script>alert(1)</script>"
    run = submit([echo("a")], files={'page".html; x=': content})

    answer = superuser.get(f"/admin/runs/runfile/{run.files.get().pk}/content/")

    assert answer.content == content
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''page%22.html%3B%20x%3D"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_is_not_text_is_not_shown(superuser, submit):
    run = submit([echo("a")], files={"a.bin": b"\xff\xfe\x00\x01"})

    assert "Not text" in superuser.page(f"/admin/runs/runfile/{run.files.get().pk}/change/").text()


def test_an_agents_and_a_workers_words_are_text_too(superuser, agent):
    Agent.objects.filter(pk=agent.pk).update(name=MARKUP[:100], description=MARKUP)
    Worker.objects.create(name=MARKUP[:200], host="h", lane="compute", pid=1)

    for url in (
        "/admin/",
        "/admin/agents/agent/",
        f"/admin/agents/agent/{agent.pk}/change/",
        "/admin/infrastructure/worker/",
    ):
        assert not superuser.page(url).css("img, [onerror]"), url


def test_a_file_with_an_invisible_name_never_gets_in(submit):
    with pytest.raises(InvalidInput):
        submit([echo("a")], files={"\u202etxt.exe": b"x"})
