"""The admin as a person meets it: in Chromium, with its content policy, on real rows."""

import pytest
from playwright.sync_api import Page, expect

from agentsys.accounts.models import User
from agentsys.runs.store import claims
from tests.support import tools
from tests.support.approvals import ask, wire, wired

pytestmark = pytest.mark.browser


def echo(key, value=None, **fields):
    return {"key": key, "tool": "test.echo", "arguments": {"value": value}, **fields}


def report_plan():
    parts = [echo(f"part_{n}", f"${{split[{n}]}}", title=f"Summarize part {n + 1}") for n in range(3)]
    return [
        echo("fetch", {"pages": [1, 2, 3]}, title="Fetch the report"),
        echo("split", "${fetch.pages}", title="Split it into parts"),
        *parts,
        echo("join", ["${part_0}", "${part_1}", "${part_2}"], title="Put the summaries together"),
        {"key": "send", "tool": "test.far", "arguments": {"value": "${join}"}, "title": "Send the newsletter"},
    ]


def run_address(run) -> str:
    return f"/admin/runs/run/{run.pk}/change/"


def fill_in(page, name, password):
    page.goto("/admin/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")


def test_a_person_signs_in_finds_a_run_and_reads_its_plan(open_page, make_user, submit, worker, picture):
    run = worker.finish(submit(report_plan(), goal="Summarize the report and send it", labels={"team": "search"}))
    worker.finish(submit([echo("a"), {"key": "b", "tool": "test.fail"}], goal="Look up the prices"))
    make_user("olga")
    User.objects.update(is_staff=True)
    page = open_page()
    fill_in(page, "olga", "correct horse battery")
    page.wait_for_selector("#overview")
    picture(page, "overview")

    page.click("#nav-sidebar-apps >> text=Runs")
    picture(page, "runs")
    page.click("text=Summarize the report and send it")

    assert page.url.endswith(run_address(run))
    assert page.locator("#plan a.node").count() == 7
    assert page.locator("#plan path.edge").count() == 8
    picture(page, "run")
    page.click("#plan a.node .name >> text=Split it into parts")
    expect(page.locator(".as-head")).to_contain_text("split")
    expect(page.locator("pre").first).to_contain_text("1")
    picture(page, "step")


def test_a_wrong_password_stays_outside(open_page, make_user):
    make_user("olga")
    page = open_page()
    fill_in(page, "olga", "wrong")

    expect(page.locator("body")).to_contain_text("Please enter the correct")
    assert "/admin/login/" in page.url


def test_a_step_that_starts_is_shown_to_run(sign_in, submit, picture):
    run = submit(report_plan(), goal="Watch me")
    page = sign_in()
    page.goto(run_address(run))
    expect(page.locator(".as-big")).to_have_text("queued")

    assert claims.claim("compute", owner="somebody")

    expect(page.locator("#plan a.node.s-running")).to_have_count(1)
    expect(page.locator("#attempts")).to_contain_text("somebody")
    picture(page, "running")


def test_a_run_that_ends_is_shown_to_end(sign_in, submit, worker):
    run = submit(report_plan(), goal="Watch me end")
    page = sign_in()
    page.goto(run_address(run))
    page.evaluate("window.sameDocument = true")

    worker.drain("compute")
    expect(page.locator("#plan a.node.s-succeeded")).to_have_count(6)
    expect(page.locator(".as-big")).to_have_text("running")
    worker.finish(run)

    expect(page.locator(".as-big")).to_have_text("succeeded")
    expect(page.locator("#result")).to_contain_text("send")
    expect(page.locator(".as-live")).to_have_count(0)
    expect(page.locator("text=Cancel run")).to_have_count(0)
    assert page.evaluate("window.sameDocument")


def test_what_was_closed_stays_closed_while_the_page_follows(sign_in, submit, worker):
    run = submit(report_plan())
    worker.drain("compute")
    page = sign_in()
    page.goto(run_address(run))
    page.click("#attempts summary h2")
    expect(page.locator("#attempts table")).to_be_hidden()

    worker.finish(run)

    expect(page.locator("#plan a.node.s-succeeded")).to_have_count(7)
    expect(page.locator("#attempts table")).to_be_hidden()


def test_a_run_is_cancelled_with_a_question_in_between(sign_in, submit, picture):
    run = submit(report_plan(), goal="Stop me")
    page = sign_in()
    page.goto(run_address(run))

    page.click("text=Cancel run")
    expect(page.locator(".as-confirm h2")).to_have_text("Cancel this run?")
    picture(page, "cancel")
    run.refresh_from_db()
    assert run.status == "queued"
    page.click("button >> text=Cancel the run")

    expect(page.locator(".as-big")).to_have_text("cancelled")
    expect(page.locator("#main")).to_contain_text("The run is cancelled")
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_call_that_may_have_happened_is_decided(sign_in, submit, worker, picture):
    charge = {"key": "charge", "tool": "test.charge", "arguments": {"how": "unknown"}}
    run = submit([charge, echo("receipt", "${charge}")], goal="Charge the card")
    worker.work()
    page = sign_in()
    page.goto("/admin/")

    page.click("#overview >> text=charge")
    page.check("text=It happened")
    page.fill("textarea", '{"paid": true}')
    picture(page, "decide")
    page.click("button >> text=Decide")

    expect(page.locator("#main")).to_contain_text("Decided")
    worker.finish(run)
    expect(page.locator("#result")).to_contain_text('"paid": true')


def test_what_waits_for_a_person_is_edited_answered_and_denied(sign_in, submit, worker, picture):
    said = "Ann</textarea><script>alert(1)</script><img src=x onerror=alert(2)>\u202e"
    first = submit([wire(arguments={"note": said}), ask(question=f"Who is {said}?", schema={"type": "integer"})])
    second = submit([wire("refund", "mallory")], goal="Refund")
    worker.work()
    tools.calls.clear()
    page = sign_in()
    page.goto("/admin/")
    page.click("#nav-sidebar-apps >> text=Approvals")
    picture(page, "inbox")
    expect(page.locator("section.as-alert")).to_have_count(3)
    assert page.locator("#content img").count() == 0

    card = page.locator("section.as-alert", has_text="bob")
    card.locator("text=Edit…").click()
    picture(page, "edit")
    card.locator("textarea").fill('{"to": "${who}", "note": "as typed"}')
    card.locator("text=Approve with these arguments").click()
    expect(page.locator("#main")).to_contain_text("Approved as edited")

    page.fill("form[action*=answer] textarea", "7")
    page.click("button >> text=Answer")
    expect(page.locator("section.as-alert")).to_have_count(1)
    page.fill("input[name=reason]", "Never")
    page.click("button >> text=Deny")
    expect(page.locator("#content")).to_contain_text("Nobody waits for a decision.")
    worker.work()
    first.refresh_from_db(), second.refresh_from_db()
    assert (first.status, first.result["who"], wired()[0]["to"]) == ("succeeded", 7, "${who}")
    assert (second.status, second.error["message"]) == ("failed", "Never")


def test_a_run_that_comes_to_a_question_shows_it(sign_in, submit, worker, picture):
    run = submit([ask(question="Tea or coffee?", schema={"enum": ["tea", "coffee"]})], goal="Serve")
    page = sign_in()
    page.goto(run_address(run))

    worker.work()

    expect(page.locator(".as-big")).to_have_text("waiting")
    picture(page, "asks")
    page.click("a >> text=Decide")
    picture(page, "question")
    page.fill("textarea[name=typed]", "tea")
    page.click("button >> text=Answer")
    expect(page.locator("#result")).to_contain_text("tea")


def test_runs_are_filtered_through_the_form(sign_in, submit, worker, picture):
    worker.finish(submit([echo("a")], goal="Went well"))
    worker.finish(submit([{"key": "a", "tool": "test.fail"}], goal="Went wrong"))
    page = sign_in()
    page.goto("/admin/runs/run/")

    page.click("text=Filters")
    page.check("#changelist-filter >> text=Failed")
    picture(page, "filters")
    page.click("text=Apply Filters")

    expect(page.locator("#result_list")).to_contain_text("Went wrong")
    expect(page.locator("#result_list")).not_to_contain_text("Went well")


def test_an_agent_gets_its_next_version(sign_in, agent, picture):
    page = sign_in("author")
    page.goto(f"/admin/agents/agent/{agent.pk}/change/")
    page.fill("textarea[name=instructions]", "Be brief.")
    page.check("text=http.get")
    page.click("button[name=_continue]")

    expect(page.locator("#main")).to_contain_text("was changed successfully")
    page.click("text=Versions")
    expect(page.locator("#versions-group")).to_contain_text("Be brief.")
    picture(page, "agent")
    agent.refresh_from_db()
    assert (agent.current_version.number, agent.current_version.tools) == (2, ["http.get"])


def test_what_a_run_says_is_never_run(sign_in, submit, worker):
    said = "<script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
    run = submit(
        [echo("a", said, title=said), {"key": "b", "tool": "test.fail", "arguments": {"message": said}}],
        goal=said,
        labels={said[:80]: said},
        files={"<img src=x onerror=alert(4)>.html": said.encode()},
    )
    worker.finish(run)
    page = sign_in()

    step, file = run.steps.first(), run.files.get()
    for address in (run_address(run), f"/admin/runs/step/{step.pk}/change/", f"/admin/runs/runfile/{file.pk}/change/"):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        assert page.locator("#content img").count() == 0


def test_who_is_signed_out_elsewhere_is_told(sign_in, submit):
    run = submit(report_plan())
    page = sign_in()
    page.goto(run_address(run))

    page.context.clear_cookies()

    expect(page.locator("[role=status]")).to_contain_text("Signed out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_plan_is_readable_in_both_themes(sign_in, submit, worker, scheme, picture):
    run = submit([*report_plan(), {"key": "bad", "tool": "test.fail", "depends_on": ["fetch"], "on_error": "continue"}])
    worker.drain("compute")
    page = sign_in(color_scheme=scheme)
    page.goto(run_address(run))
    picture(page, f"plan-{scheme}")

    for text in (".name", ".what"):
        assert contrast(page, f"#plan a.node {text}", "#plan a.node .box") >= 4.5


def contrast(page: Page, text: str, behind: str) -> float:
    """The smallest contrast (WCAG) between the fills of the texts and the boxes they lie on."""
    return page.evaluate(
        """([text, behind]) => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const light = (element) => {
                canvas.fillStyle = getComputedStyle(element).fill;
                canvas.fillRect(0, 0, 1, 1);
                const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
                    const share = part / 255;
                    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const boxes = [...document.querySelectorAll(behind)];
            return Math.min(...[...document.querySelectorAll(text)].map((element, i) => {
                const [low, high] = [light(element), light(boxes[i])].sort((a, b) => a - b);
                return (high + 0.05) / (low + 0.05);
            }));
        }""",
        [text, behind],
    )


@pytest.mark.parametrize("address", ["/admin/", "run"])
def test_a_narrow_screen_does_not_scroll_sideways(sign_in, submit, worker, address, picture):
    run = worker.finish(submit(report_plan(), goal="A rather long goal " * 10))
    page = sign_in()
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(run_address(run) if address == "run" else address)

    picture(page, f"narrow-{address.strip('/')}")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
