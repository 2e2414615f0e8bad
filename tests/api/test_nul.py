"""A NUL anywhere in a request is answered: PostgreSQL would not even look."""

from collections import defaultdict

import pytest

HEADERS = (
    "Accept", "Accept-Language", "Authorization", "Content-Type", "Cookie", "Host", "Idempotency-Key", "Last-Event-ID",
    "Origin", "Referer", "User-Agent", "X-Correlation-ID", "X-Forwarded-For", "X-Forwarded-Host", "X-Request-ID",
)  # fmt: skip
STEPS = [{"key": "a", "tool": "test.echo"}]


@pytest.fixture
def run(submit):
    return submit(STEPS)


@pytest.fixture
def admin_of(member):
    return member("admin")


@pytest.mark.parametrize("nul", ["%00", "a%00b", "%ED%A0%80"])
def test_a_nul_in_a_path_is_an_address_that_there_is_not(admin_of, run, nul):
    paths = admin_of.get("/api/v1/schema", headers={"Accept": "application/json"}).json()["paths"]
    asked = 0
    for path, verbs in paths.items():
        for part in path.split("/"):
            if not part.startswith("{"):
                continue
            named = defaultdict(lambda: "1", run_id=run.pk, key="a", name="a", slug="assistant")
            here = path.replace(part, nul).format_map(named)
            for verb in verbs.keys() & {"get", "post", "put", "patch", "delete"}:
                answer = getattr(admin_of, verb)(here, **({} if verb == "get" else {"format": "json"}))
                assert answer.status_code == 404, (verb, here)
                asked += 1
    assert asked > 20
    assert admin_of.get(f"/{nul}").status_code == 404


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("value", ["\x00", "a\x00b", "\x7f\x01"])
def test_a_nul_in_a_header_is_answered(operator, run, name, value):
    operator.raise_request_exception = False
    for method, path in (("get", "runs"), ("post", "runs"), ("get", f"runs/{run.pk}/events")):
        body = {"data": {"plan": {"steps": STEPS}}, "format": "json"} if method == "post" else {}

        answer = getattr(operator, method)(f"/api/v1/{path}", headers={name: value}, **body)

        assert answer.status_code < 500, (method, path)
        assert answer.status_code < 400 or answer["Content-Type"] == "application/problem+json" or name == "Host"


def test_a_nul_in_any_parameter_of_the_admin_is_answered(client, make_user, run):
    eve = make_user("eve", "admin")
    eve.is_staff = eve.is_superuser = True
    eve.save()
    client.force_login(eve)
    client.raise_request_exception = False
    for model in ("runs/run", "runs/step", "runs/approval", "agents/agent", "accounts/user", "infrastructure/worker"):
        for query in ("q", "o", "p", "e", "status", "status__exact", "workspace", "id", "_changelist_filters"):
            answer = client.get(f"/admin/{model}/", {query: "a\x00b"})
            assert answer.status_code < 500, (model, query)
        assert client.get(f"/admin/{model}/a%00b/change/").status_code < 500
