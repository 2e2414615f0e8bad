"""Agents by their page: to edit a definition is to make the next version."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agentsys.accounts.models import Role
from agentsys.agents.models import Agent, AgentVersion

EMPTY = dict.fromkeys(("description", "model", "instructions", "limits", "output_schema"), "")
FORM = {"name": "Assistant", "mode": "plan", **EMPTY}
INLINE = {"versions-TOTAL_FORMS": "0", "versions-INITIAL_FORMS": "0"}


def save(browser, agent, **changed):
    return browser.post(f"/admin/agents/agent/{agent.pk}/change/", **(FORM | INLINE | changed))


def numbers(agent):
    return list(agent.versions.order_by("number").values_list("number", flat=True))


def test_a_changed_definition_is_the_next_version(staff, agent):
    answer = save(
        staff(Role.AUTHOR),
        agent,
        instructions="Be brief.",
        tools=["test.echo", "http.get"],
        limits='{"steps": 5}',
        output_schema='{"type": "object"}',
        model="openai-chat:small",
    )

    assert answer.status_code == 302
    agent.refresh_from_db()
    now = agent.current_version
    assert (now.number, now.instructions, now.model, now.limits) == (2, "Be brief.", "openai-chat:small", {"steps": 5})
    assert (sorted(now.tools), now.output_schema) == (["http.get", "test.echo"], {"type": "object"})
    assert numbers(agent) == [1, 2]


def test_a_new_name_is_no_new_version(staff, agent):
    save(staff(Role.AUTHOR), agent, name="Helper", description="Helps.")

    agent.refresh_from_db()
    assert (agent.name, agent.description, numbers(agent)) == ("Helper", "Helps.", [1])


def test_saving_a_version_as_it_is_makes_no_other(staff, agent):
    author = staff(Role.AUTHOR)
    full = {
        "instructions": "Be brief.",
        "tools": ["test.echo"],
        "limits": '{"steps": 5}',
        "output_schema": '{"type": "object"}',
    }
    save(author, agent, **full)

    save(author, agent, **full, use_version="2")

    assert numbers(agent) == [1, 2]


def test_one_goes_back_to_an_earlier_version(staff, agent):
    author = staff(Role.AUTHOR)
    save(author, agent, instructions="Be brief.")

    save(author, agent, instructions="Be brief.", use_version="1")

    agent.refresh_from_db()
    assert (agent.current_version.number, numbers(agent)) == (1, [1, 2])


def test_a_changed_definition_may_be_a_draft_that_is_published_later(staff, agent):
    author = staff(Role.AUTHOR)

    save(author, agent, instructions="Be brief.", becomes="draft", use_version="1")
    agent.refresh_from_db()
    assert (agent.current_version.number, numbers(agent)) == (1, [1, 2])
    page = author.page(f"/admin/agents/agent/{agent.pk}/change/")
    assert "+instructions: Be brief." in page.text()
    save(author, agent, use_version="2")

    agent.refresh_from_db()
    assert (agent.current_version.number, agent.current_version.status, numbers(agent)) == (2, "published", [1, 2])


def test_a_version_is_retired(staff, agent):
    author = staff(Role.AUTHOR)
    save(author, agent, instructions="Be brief.")

    assert save(author, agent, instructions="Be brief.", use_version="1", retire="1").status_code == 200
    save(author, agent, instructions="Be brief.", use_version="2", retire="1")

    assert list(agent.versions.values_list("number", "status")) == [(2, "published"), (1, "retired")]
    assert save(author, agent, instructions="Be brief.", use_version="1").status_code == 200  # no choice any more


def test_a_version_is_taken_away_as_a_file(staff, agent):
    answer = staff(Role.VIEWER).get(f"/admin/agents/agent/{agent.pk}/versions/1.yaml")

    assert answer["Content-Type"] == "application/yaml"
    assert answer.content.decode().startswith("slug: assistant\nname: Assistant\n")
    assert staff(Role.VIEWER).get(f"/admin/agents/agent/{agent.pk}/versions/9.yaml").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": ["no.such"]},
        {"mode": "dream"},
        {"limits": '{"steps": 0}'},
        {"limits": '{"wings": 2}'},
        {"limits": "[1]"},
        {"limits": "{"},
        {"output_schema": '{"type": "nonsense"}'},
        {"output_schema": '{"$ref": "http://example.org/schema"}'},
        {"model": "no-provider-here"},
        {"name": ""},
    ],
)
def test_a_faulty_definition_is_told_and_nothing_changes(staff, agent, wrong):
    answer = save(staff(Role.AUTHOR), agent, **({"instructions": "changed"} | wrong))

    assert answer.status_code == 200
    assert "text-red" in answer.content.decode()
    agent.refresh_from_db()
    assert (agent.name, numbers(agent)) == ("Assistant", [1])


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_authors_define_agents(staff, agent, workspace, role):
    browser = staff(role)

    assert save(browser, agent, instructions="Obey me.").status_code == 403
    assert browser.post("/admin/agents/agent/add/", workspace=workspace.pk, slug="x", **FORM).status_code == 403
    assert AgentVersion.objects.count() == 1
    assert not browser.page(f"/admin/agents/agent/{agent.pk}/change/").css("button[name=_save]")


def test_an_author_makes_an_agent_with_its_first_version(staff, workspace):
    answer = staff(Role.AUTHOR).post("/admin/agents/agent/add/", workspace=workspace.pk, slug="poet", **FORM)

    assert answer.status_code == 302
    made = Agent.objects.get(slug="poet")
    assert (made.workspace, made.current_version.number) == (workspace, 1)


def test_an_author_makes_no_agent_elsewhere(staff, elsewhere):
    staff(Role.AUTHOR).post("/admin/agents/agent/add/", workspace=elsewhere.pk, slug="poet", **FORM)

    assert not Agent.objects.exists()


def test_a_slug_that_is_taken_is_told(staff, agent, workspace):
    answer = staff(Role.AUTHOR).post("/admin/agents/agent/add/", workspace=workspace.pk, slug=agent.slug, **FORM)

    assert answer.status_code == 200
    assert Agent.objects.count() == 1


def test_the_page_shows_every_version(staff, agent):
    author = staff(Role.AUTHOR)
    save(author, agent, instructions="Speak of whales.")
    save(author, agent, instructions="Speak of birds.", tools=["test.echo"])

    text = author.page(f"/admin/agents/agent/{agent.pk}/change/").css_first("#versions-group").text()

    for part in ("version 1", "version 2", "version 3", "Speak of whales.", "test.echo"):
        assert part in text


def test_an_agent_is_not_deleted_here(superuser, agent):
    assert superuser.post(f"/admin/agents/agent/{agent.pk}/delete/", post="yes").status_code == 403
    assert Agent.objects.filter(pk=agent.pk).exists()


def test_a_page_of_many_versions_costs_no_more_queries(superuser, agent):
    def queries():
        with CaptureQueriesContext(connection) as caught:
            superuser.page(f"/admin/agents/agent/{agent.pk}/change/")
        return len(caught.captured_queries)

    def more(*numbers):
        for number in numbers:
            AgentVersion.objects.create(
                workspace_id=agent.workspace_id, agent=agent, number=number, instructions=f"{number}"
            )

    more(2, 3)
    queries()  # what a first page asks for once
    few = queries()
    more(4, 5, 6, 7, 8)
    assert queries() == few
