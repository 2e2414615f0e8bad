"""Logging in, going on, logging out; who one is, and where."""

from typing import Any

import pytest
from django.core.cache import cache
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken

from agentsys.accounts.models import Membership, Role, User
from agentsys.api import attempts, tokens

TOKEN, REFRESH, LOGOUT, ME = (f"/api/v1/{name}" for name in ("auth/token", "auth/refresh", "auth/logout", "me"))
PASSWORD = "correct horse battery"  # of every user that make_user makes


@pytest.fixture(autouse=True)
def _no_failures_counted() -> None:
    cache.clear()


@pytest.fixture
def ann(make_user: Any) -> User:
    return make_user("ann")


@pytest.fixture
def log_in(nobody: Any, ann: User) -> Any:
    def post(**fields: Any) -> Any:
        return nobody.post(TOKEN, {"username": "ann", "password": PASSWORD, **fields}, format="json")

    return post


@pytest.fixture
def me(nobody: Any) -> Any:
    def get(access: str, **headers: str) -> Any:
        return nobody.get(ME, headers={"Authorization": f"Bearer {access}", **headers})

    return get


def test_a_name_and_a_password_give_a_session_in_the_oldest_membership(
    log_in: Any, me: Any, workspace: Any, other_workspace: Any, ann: User
) -> None:
    Membership.objects.create(user=ann, workspace=other_workspace, role=Role.ADMIN)

    response = log_in()

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    found = me(response.json()["access"]).json()
    assert found["username"] == "ann"
    assert (found["workspace"]["slug"], found["role"]) == ("home", "operator")
    assert "runs.submit" in found["permissions"]
    assert "agents.write" not in found["permissions"]
    assert [(m["workspace"]["slug"], m["role"]) for m in found["memberships"]] == [
        ("home", "operator"),
        ("theirs", "admin"),
    ]


def test_another_membership_is_chosen_by_slug(log_in: Any, me: Any, other_workspace: Any, ann: User) -> None:
    Membership.objects.create(user=ann, workspace=other_workspace, role=Role.VIEWER)

    found = me(log_in(workspace="theirs").json()["access"]).json()

    assert (found["workspace"]["slug"], found["role"]) == ("theirs", "viewer")


@pytest.mark.parametrize("slug", ["theirs", "nowhere"])
def test_a_strangers_workspace_cannot_be_told_from_one_that_is_not_there(
    log_in: Any, problem: Any, other_workspace: Any, slug: str
) -> None:
    assert problem(log_in(workspace=slug), 403, "forbidden")["detail"] == (
        "You are not a member of a workspace of this name."
    )


@pytest.mark.parametrize("fields", [{"password": "wrong"}, {"username": "nobody"}, {"username": "ANN"}])
def test_a_wrong_name_and_a_wrong_password_look_the_same(log_in: Any, problem: Any, fields: Any) -> None:
    body = problem(log_in(**fields), 401, "authentication_failed")

    assert body["detail"] == "The name or the password is wrong."


def test_a_user_without_any_membership_cannot_log_in(nobody: Any, make_user: Any, problem: Any) -> None:
    make_user("lone", where=None)

    response = nobody.post(TOKEN, {"username": "lone", "password": PASSWORD}, format="json")

    problem(response, 403, "forbidden")


def test_an_inactive_user_cannot_log_in_and_an_open_session_ends(log_in: Any, me: Any, ann: User, problem: Any) -> None:
    access = log_in().json()["access"]
    User.objects.filter(pk=ann.pk).update(is_active=False)

    problem(log_in(), 401, "authentication_failed")
    problem(me(access), 401, "token_not_valid")


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        ({"username": None}, "username", "type"),
        ({"username": 5}, "username", "type"),
        ({"password": ["x"]}, "password", "type"),
        ({"admin": True}, "admin", "unknown_field"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_its_faults(
    log_in: Any, problem: Any, fields: Any, path: str, code: str
) -> None:
    body = problem(log_in(**fields), 422, "invalid_input")

    assert [(fault["path"], fault["code"]) for fault in body["errors"]] == [(path, code)]


def test_guessing_passwords_is_slowed_down_and_a_good_one_counts_nothing(
    log_in: Any, problem: Any, nobody: Any, make_user: Any, workspace: Any
) -> None:
    make_user("ben")
    for _ in range(attempts.PER_NAME):
        assert log_in().status_code == 200
        problem(log_in(password="guess"), 401, "authentication_failed")

    response = log_in()

    problem(response, 429, "throttled")
    assert int(response["Retry-After"]) > 0
    other = nobody.post(TOKEN, {"username": "ben", "password": PASSWORD}, format="json")
    assert other.status_code == 200


def test_a_refresh_token_gives_a_new_pair_once(log_in: Any, nobody: Any, me: Any, problem: Any) -> None:
    first = log_in().json()

    second = nobody.post(REFRESH, {"refresh": first["refresh"]}, format="json").json()

    assert me(second["access"]).json()["workspace"]["slug"] == "home"
    again = nobody.post(REFRESH, {"refresh": first["refresh"]}, format="json")
    problem(again, 401, "token_not_valid")


def test_a_refresh_token_used_twice_ends_the_whole_session(log_in: Any, nobody: Any, me: Any, problem: Any) -> None:
    stolen = log_in().json()
    other_session = log_in().json()
    fresh = nobody.post(REFRESH, {"refresh": stolen["refresh"]}, format="json").json()

    nobody.post(REFRESH, {"refresh": stolen["refresh"]}, format="json")

    problem(nobody.post(REFRESH, {"refresh": fresh["refresh"]}, format="json"), 401, "token_not_valid")
    problem(me(fresh["access"]), 401, "token_not_valid")
    assert me(other_session["access"]).status_code == 200


def test_a_log_out_ends_all_tokens_of_the_session_and_may_be_repeated(
    log_in: Any, nobody: Any, me: Any, problem: Any
) -> None:
    pair = log_in().json()

    for _ in range(2):
        assert nobody.post(LOGOUT, {"refresh": pair["refresh"]}, format="json").status_code == 204

    problem(me(pair["access"]), 401, "token_not_valid")
    problem(nobody.post(REFRESH, {"refresh": pair["refresh"]}, format="json"), 401, "token_not_valid")


def test_a_new_password_ends_the_sessions_of_the_old_one(
    log_in: Any, nobody: Any, me: Any, ann: User, problem: Any
) -> None:
    pair = log_in().json()
    ann.set_password("another")
    ann.save()

    problem(me(pair["access"]), 401, "token_not_valid")
    problem(nobody.post(REFRESH, {"refresh": pair["refresh"]}, format="json"), 401, "token_not_valid")


def test_no_token_that_works_is_kept_in_the_database(log_in: Any, nobody: Any) -> None:
    pair = log_in().json()
    nobody.post(REFRESH, {"refresh": pair["refresh"]}, format="json")
    nobody.post(REFRESH, {"refresh": pair["refresh"]}, format="json")

    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", "Bearer a b", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer \xff\xfe", "bearer ask_123"],
)
def test_what_is_no_token_of_ours_is_refused(nobody: Any, db: Any, problem: Any, header: str) -> None:
    response = nobody.get(ME, headers={"Authorization": header})

    problem(response, 401, "token_not_valid")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_without_a_token_there_is_a_challenge(nobody: Any, db: Any, problem: Any) -> None:
    response = nobody.get(ME)

    problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_refresh_token_is_no_access_token_and_the_other_way_round(
    log_in: Any, nobody: Any, me: Any, problem: Any
) -> None:
    pair = log_in().json()

    problem(me(pair["refresh"]), 401, "token_not_valid")
    problem(nobody.post(REFRESH, {"refresh": pair["access"]}, format="json"), 401, "token_not_valid")


@pytest.mark.parametrize(
    "claims",
    [
        {"user_id": "x"},
        {"user_id": None},
        {"user_id": "99999999999999999999"},
        {"workspace": "x"},
        {"workspace": 5},
        {"auth": ""},
        {},
    ],
)
def test_claims_that_name_nobody_are_refused(ann: User, workspace: Any, me: Any, problem: Any, claims: Any) -> None:
    raw: Any = tokens.issue(ann, workspace.pk).access
    token = AccessToken(raw)
    for name in claims or ("user_id", "auth", "family"):
        token.payload.pop(name)
    token.payload.update(claims)

    problem(me(str(token)), 401, "token_not_valid")


def test_a_member_who_was_removed_may_do_nothing_more(log_in: Any, me: Any, nobody: Any, problem: Any) -> None:
    access = log_in().json()["access"]
    Membership.objects.all().delete()

    assert me(access).json()["role"] is None
    problem(nobody.get("/api/v1/runs", headers={"Authorization": f"Bearer {access}"}), 403, "forbidden")


def test_a_superuser_enters_another_workspace_for_one_request(
    make_user: Any, workspace: Any, other_workspace: Any, client_of: Any
) -> None:
    root = make_user("root", where=None)
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    client = client_of(root, workspace)

    here = client.get(ME).json()
    there = client.get(ME, headers={"X-Workspace": "theirs"}).json()

    assert (here["workspace"]["slug"], here["role"]) == ("home", "admin")
    assert (there["workspace"]["slug"], there["role"]) == ("theirs", "admin")


@pytest.mark.parametrize("slug", ["theirs", "nowhere", "a\x00b"])
def test_anybody_else_does_not_even_with_a_membership_there(
    ann: User, workspace: Any, other_workspace: Any, client_of: Any, problem: Any, slug: str
) -> None:
    Membership.objects.create(user=ann, workspace=other_workspace, role=Role.ADMIN)
    client = client_of(ann, workspace)

    problem(client.get(ME, headers={"X-Workspace": slug}), 403, "forbidden")
    assert client.get(ME, headers={"X-Workspace": "home"}).status_code == 200


def test_who_asks_is_found_out_in_one_query(ann: User, workspace: Any, client_of: Any, counted: Any) -> None:
    client = client_of(ann, workspace)

    with counted() as statements:
        assert client.get("/api/v1/tools/text.count").status_code == 200
    assert len(statements) == 1, statements
