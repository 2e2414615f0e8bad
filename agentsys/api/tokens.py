"""Sessions as JWTs: a short access token, and a refresh token that works once.

All tokens of one log-in share a ``family``.  A refresh token used a second time means that somebody
else has a copy: the whole family ends, its access tokens with it.  So does a log-out, and a changed
password ends every session of the user.  What is kept is one row for each used refresh token and one
for each ended family (``flushexpiredtokens`` removes the old ones); a log-in writes nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

from django.db import DEFAULT_DB_ALIAS, transaction
from rest_framework.exceptions import AuthenticationFailed
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken
from rest_framework_simplejwt.utils import aware_utcnow, datetime_from_epoch

from agentsys.accounts import access
from agentsys.accounts.access import Access
from agentsys.accounts.models import User
from agentsys.core import db

INVALID = "token_not_valid"
_SQL = db.load(Path(__file__).parent / "sql")


class SessionToken(RefreshToken):
    """A refresh token; whether it was used or revoked is asked by the functions below."""

    def check_blacklist(self) -> None:
        """Nothing: one query asks it together with the user."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a log-in or a refresh gives."""

    access: str
    refresh: str


def issue(user: User, workspace_id: UUID | None) -> Pair:
    """The tokens of a new session of ``user`` in a workspace.  Costs no query."""
    token = SessionToken()
    token["user_id"] = str(user.pk)
    token["workspace"] = str(workspace_id) if workspace_id else None
    token["family"] = uuid4().hex
    token["auth"] = _fingerprint(user)
    return Pair(str(token.access_token), str(token))


def rotate(raw: str) -> Pair:
    """New tokens for a refresh token, which is used up.

    Raises:
        AuthenticationFailed: it is not valid, or was used before (then its family is over).
    """
    used = _decode(SessionToken, raw)
    whose = find(used.payload)
    with transaction.atomic():
        fresh = _spend(used)
        if not fresh:
            _end_family(used)
    if not fresh:
        raise AuthenticationFailed("This token was used before; log in again.", INVALID)
    token = SessionToken()
    for claim in ("user_id", "workspace", "family"):
        token[claim] = used[claim]
    token["auth"] = _fingerprint(whose.user)
    return Pair(str(token.access_token), str(token))


def revoke(raw: str) -> None:
    """End the session that a refresh token belongs to; ending it twice is fine.

    Raises:
        AuthenticationFailed: this is no refresh token of ours.
    """
    _end_family(_decode(SessionToken, raw))


def claims_of(raw: bytes) -> Mapping[str, Any]:
    """The claims of an access token.  Costs no query.

    Raises:
        AuthenticationFailed: it is expired, forged or no access token.
    """
    token = _signed(raw)
    with _refused():
        token.check_exp(current_time=aware_utcnow())
    return token.payload


@lru_cache(maxsize=4096)
def _signed(raw: bytes) -> AccessToken:
    """A token whose signature is ours, which stays true; that it has not expired does not."""
    return cast(AccessToken, _decode(AccessToken, raw))


def find(claims: Mapping[str, Any], *, workspace: str | None = None) -> Access:
    """The user that valid claims speak of, and what they may do; one query.

    Args:
        workspace: The slug of another workspace than the one the session is for.

    Raises:
        AuthenticationFailed: the user, or the session, is no longer good.
    """
    found = db.row(
        _SQL["whose_session"],
        user_id=_claimed_user(claims),
        workspace_id=None if workspace else _claimed_workspace(claims),
        slug=workspace,
        family=_family_row(claims),
    )
    return _access(claims, found)


def find_all(asked: Sequence[tuple[Mapping[str, Any], str | None]]) -> list[Access | None]:
    """As :func:`find` for many pairs of claims and workspace; None where it would refuse.  One query for all."""
    rows: dict[int, db.Row] = {
        row.pop("n"): row
        for row in db.rows(
            _SQL["whose_sessions"],
            user_ids=[_claimed_user(claims) for claims, _ in asked],
            workspace_ids=[None if slug else _claimed_workspace(claims) for claims, slug in asked],
            slugs=[slug for _, slug in asked],
            families=[_family_row(claims) for claims, _ in asked],
        )
    }
    return [_access_or_none(claims, rows.get(n)) for n, (claims, _) in enumerate(asked, start=1)]


def _access_or_none(claims: Mapping[str, Any], found: db.Row | None) -> Access | None:
    try:
        return _access(claims, found)
    except AuthenticationFailed:
        return None


def _access(claims: Mapping[str, Any], found: db.Row | None) -> Access:
    user = _user_of(found) if found else None
    if found is None or user is None or not user.is_active:
        raise AuthenticationFailed("This user cannot log in.", INVALID)
    if found["session_over"] or claims.get("auth") != _fingerprint(user):
        raise AuthenticationFailed("This session is over; log in again.", INVALID)
    return access.as_member(user, found["workspace_here"], found["role_here"])


def _user_of(row: db.Row) -> User:
    fields = User._meta.concrete_fields
    return User.from_db(DEFAULT_DB_ALIAS, [f.attname for f in fields], [row[f.column or f.attname] for f in fields])


def _decode(kind: Any, raw: str | bytes) -> Any:
    with _refused():
        return kind(raw)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except (TokenError, ValueError, TypeError):
        raise AuthenticationFailed("The token is not valid or has expired.", INVALID) from None


def _claimed_user(claims: Mapping[str, Any]) -> int:
    try:
        number = int(claims["user_id"])
    except (KeyError, TypeError, ValueError):
        number = 0
    return number if 0 < number < 2**63 else 0  # 0: nobody


def _claimed_workspace(claims: Mapping[str, Any]) -> UUID | None:
    try:
        return UUID(claims["workspace"]) if claims.get("workspace") else None
    except (TypeError, ValueError, AttributeError):
        raise AuthenticationFailed("The token names no workspace.", INVALID) from None


def _fingerprint(user: User) -> str:
    """Changes with the password; says nothing about it."""
    return hashlib.sha256(user.get_session_auth_hash().encode()).hexdigest()[:32]


def _family_row(claims: Mapping[str, Any]) -> str:
    return f"family:{claims.get('family')}"


def _spend(used: SessionToken) -> bool:
    """Mark a refresh token as used; False when it was.  Of two at once, one wins (UNIQUE)."""
    return _blacklist(used, str(used["jti"]))


def _end_family(used: SessionToken) -> None:
    _blacklist(used, _family_row(used.payload))


def _blacklist(used: SessionToken, jti: str) -> bool:
    """Keeps the name only: a copy of the database must not hold tokens that work."""
    expires = datetime_from_epoch(used["exp"])
    if jti.startswith("family:"):  # the family may hold a token made just now
        expires = used.current_time + SessionToken.lifetime
    kept = {"token": "", "expires_at": expires}
    row, _ = OutstandingToken.objects.get_or_create(jti=jti, defaults=kept)
    return BlacklistedToken.objects.get_or_create(token=row)[1]
