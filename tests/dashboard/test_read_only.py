"""Nothing in the admin can edit what the engine writes, whatever is posted, and by whomever."""

import pytest

from agentsys.agents.models import AgentVersion
from agentsys.infrastructure.models import Outcome, Worker
from agentsys.runs.models import Approval, Attempt, Event, Run, RunFile, Step
from tests.dashboard.conftest import echo, snapshot

MODELS = [Run, Step, Approval, Attempt, Event, RunFile, Worker, Outcome]


@pytest.fixture
def rows(submit, worker):
    worker.finish(submit([echo("a", 1), {"key": "b", "tool": "test.fail"}], files={"a.txt": b"x"}))
    submit([echo("a", 1, approval=True)])
    worker.work()
    submit([echo("a", 1)])
    Worker.objects.create(name="w", host="h", lane="compute", pid=1)
    Outcome.objects.create(kind="run", outcome="failed", count=1)


def base(model) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


@pytest.mark.parametrize("model", MODELS)
def test_no_row_is_added_changed_or_deleted(superuser, rows, model):
    before = snapshot(model)
    first = before[0]
    fields = dict.fromkeys(first, "cancelled") | {"_save": "Save", "_saveasnew": "1"}

    for url in (f"{base(model)}add/", f"{base(model)}{first[model._meta.pk.name]}/change/"):
        assert superuser.post(url, **fields).status_code == 403
    assert superuser.post(f"{base(model)}{first[model._meta.pk.name]}/delete/", post="yes").status_code == 403

    assert snapshot(model) == before


@pytest.mark.parametrize("model", MODELS)
def test_the_list_takes_no_action_and_no_edit(superuser, rows, model):
    before = snapshot(model)
    every = [row[model._meta.pk.name] for row in before]
    edits = {"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": every[0], "form-0-status": "cancelled"}

    superuser.post(base(model), action="delete_selected", select_across="1", _selected_action=every, post="yes")
    superuser.post(base(model), _save="Save", **edits)

    assert snapshot(model) == before
    offered = {option.attributes["value"] for option in superuser.page(base(model)).css("select[name=action] option")}
    assert offered == ({"", "pause", "resume", "retry", "cancel"} if model is Run else set())  # by services alone


@pytest.mark.parametrize("model", MODELS)
def test_the_pages_offer_no_way_to_save(superuser, rows, model):
    pk = snapshot(model)[0][model._meta.pk.name]
    page = superuser.page(f"{base(model)}{pk}/change/")

    assert not page.css("input[name=_save], button[name=_save], a.deletelink")


def test_versions_do_not_change_through_the_page_of_their_agent(superuser, agent):
    version = agent.current_version
    before = snapshot(AgentVersion)

    superuser.post(
        f"/admin/agents/agent/{agent.pk}/change/",
        **{
            "name": "Other",
            "mode": "plan",
            "versions-TOTAL_FORMS": "1",
            "versions-INITIAL_FORMS": "1",
            "versions-0-id": str(version.pk),
            "versions-0-agent": str(agent.pk),
            "versions-0-instructions": "Do evil",
            "versions-0-DELETE": "on",
        },
    )

    assert snapshot(AgentVersion) == before
    agent.refresh_from_db()
    assert agent.name == "Other"
