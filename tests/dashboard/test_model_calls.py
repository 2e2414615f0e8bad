"""What models were asked, in the admin."""

from agentsys.core.errors import ModelFailed
from agentsys.runs.models import ModelCall
from tests.support.priced import MODEL

SAY = {"key": "say", "kind": "answer", "objective": "Say something."}


def test_a_call_has_a_page_with_what_was_asked_and_answered(superuser, submit, worker, priced):
    priced.answers("<script>alert(1)</script>")
    run = worker.finish(submit([SAY], model=MODEL, goal="Greet."))
    call = ModelCall.objects.get()

    page = superuser.page(f"/admin/runs/modelcall/{call.pk}/change/")

    assert "<script>alert(1)</script>" in page.css_first("pre").text()
    assert "Say something." in page.text()
    assert not page.css("pre script")
    listed = superuser.page("/admin/runs/modelcall/", run=run.pk)
    assert len(listed.css("#result_list tbody tr")) == 1
    assert MODEL in listed.text()


def test_a_call_that_failed_says_so(superuser, submit, worker, priced):
    priced.does(ModelFailed("It is no good."))
    worker.finish(submit([SAY], model=MODEL))
    page = superuser.page(f"/admin/runs/modelcall/{ModelCall.objects.get().pk}/change/")
    assert "It is no good." in page.text()


def test_a_strangers_call_has_no_page(staff, elsewhere, submit, worker, priced):
    worker.finish(submit([SAY], model=MODEL))
    call = ModelCall.objects.get()
    assert staff().get(f"/admin/runs/modelcall/{call.pk}/change/").status_code == 200
    stranger = staff(where=elsewhere)
    assert stranger.get(f"/admin/runs/modelcall/{call.pk}/change/").status_code == 302
    assert stranger.page("/admin/runs/modelcall/").css("#result_list tbody tr") == []
