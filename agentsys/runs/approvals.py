"""Use cases of approvals and questions: found, and decided once.  REST and the admin call these."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Case, F, Func, IntegerField, JSONField, QuerySet, Value, When
from django.db.models.lookups import LessThanOrEqual

from agentsys.accounts import keys
from agentsys.accounts.keys import Key
from agentsys.accounts.models import User
from agentsys.agents import references
from agentsys.agents import sealed as sealing
from agentsys.core import schemas
from agentsys.core.errors import (
    ApprovalChanged,
    InvalidInput,
    InvalidTransition,
    NotFound,
    PayloadTooLarge,
    ToolOutputTooLarge,
)
from agentsys.core.sanitize import clean
from agentsys.tools import registry
from agentsys.tools.arguments import Fault
from agentsys.tools.mcp import catalogue
from agentsys.tools.registry import ToolSpec

from . import asking, dispatch
from .models import Approval
from .states import ApprovalKind
from .store import decisions, payloads
from .store.decisions import Edit, Person

#: Larger arguments and answers are left out of lists.
MAX_LISTED_BYTES = 8_000
MAX_REASON_CHARS = 2_000
MAX_ANSWER_BYTES = 1_000_000
MAX_FAULTS = 100


def get(workspace_id: UUID, approval_id: UUID) -> Approval:
    """One approval with its step, its run's agent version and who decided, in one query.

    Raises:
        NotFound: not in this workspace.
    """
    related = ("step", "decided_by", "run__agent_version__agent")
    found = Approval.objects.select_related(*related).filter(workspace_id=workspace_id, pk=approval_id).first()
    if found is None:
        raise NotFound("There is no such approval.")
    return found


def lean(found: "QuerySet[Approval]") -> "QuerySet[Approval]":
    """Approvals for a list: their step's key and tool, who decided, ``short_arguments`` and ``short_answer``."""
    shown = ("workspace_id", "run_id", "kind", "digest", "tainted", "decision", "replaces_id")
    times = ("created_at", "expires_at", "decided_at")
    related = ("step__key", "step__tool", "decided_by__username")
    found = found.select_related("step", "decided_by").only(*shown, *times, *related)
    return found.annotate(short_arguments=_short("arguments"), short_answer=_short("answer"))


def _short(name: str) -> Case:
    """The document, or null where it is large: a page of large ones would be too much for anybody."""
    size = Func(F(name), function="pg_column_size", output_field=IntegerField())
    small = LessThanOrEqual(size, MAX_LISTED_BYTES)
    return Case(When(small, then=F(name)), default=Value(None), output_field=JSONField())


def decided_before(workspace_id: UUID, key: Key | None) -> Approval | None:
    """What the same request has decided under this key, as it was answered; None: nothing yet.

    Raises:
        IdempotencyKeyReused: the key belongs to another request.
        NotFound: it has left with its run.
    """
    made = keys.made_before(key)
    return None if made is None else get(workspace_id, UUID(made))


def approve(approval: Approval, *, user: User | None, digest: str | None = None, key: Key | None = None) -> Approval:
    """Let the call be made with the arguments shown.

    Args:
        digest: of what the person saw, if they say so.
        key: kept with the decision, for whoever asks by :func:`decided_before`.  Of this and all that follow:

    Raises:
        ApprovalDecided, ApprovalExpired, InvalidTransition: it is too late, or not that kind of question.
        ApprovalChanged: ``digest`` is another one.
    """
    _check(approval, digest, ApprovalKind.APPROVAL)
    return _done(approval, decisions.approve(approval, _person(user, key)))


def edit(
    approval: Approval, *, user: User | None, arguments: Any, digest: str | None = None, key: Key | None = None
) -> Approval:
    """Let the call be made with other arguments: a new approval, given with it, that replaces this one.

    Returns:
        The new approval.

    Raises:
        InvalidInput: the tool does not take these arguments, or they are the same; ``errors`` lists the faults.
        PayloadTooLarge: they are larger than can be shown.
    """
    _check(approval, digest, ApprovalKind.APPROVAL)
    edited = _edited(approval, arguments)
    _done(approval, decisions.edit(approval, _person(user, key), edited))
    made = Approval.objects.get(step_id=approval.step_id, digest=edited.digest)
    return get(approval.workspace_id, made.pk)


def deny(
    approval: Approval, *, user: User | None, reason: str = "", digest: str | None = None, key: Key | None = None
) -> Approval:
    """Refuse the call, or to answer.  The step fails, or its output says so, as the agent's version has it.

    Raises:
        InvalidInput: the reason is too long.
    """
    _check(approval, digest)
    if len(reason) > MAX_REASON_CHARS:
        raise _invalid("reason", "too_long", f"A reason has at most {MAX_REASON_CHARS:,} characters.")
    as_result = approval.run.agent_version.approvals.get("on_denied") == "result"
    return _done(approval, decisions.deny(approval, _person(user, key), clean(reason), as_result=as_result))


def answer(
    approval: Approval, *, user: User | None, answer: Any, digest: str | None = None, key: Key | None = None
) -> Approval:
    """Answer a question; the answer is the step's output.

    Raises:
        InvalidInput: it does not fit the question's schema; ``errors`` lists where.
        PayloadTooLarge: it is larger than an output may be.
    """
    _check(approval, digest, ApprovalKind.INPUT)
    value = _storable("answer", answer, MAX_ANSWER_BYTES)
    _check_answer(value, (approval.arguments or {}).get("schema"))
    return _done(approval, decisions.answer(approval, _person(user, key), value))


def _check(approval: Approval, digest: str | None, kind: ApprovalKind | None = None) -> None:
    """What can be said without a lock; whether it is still open is asked again under it."""
    if kind is not None and approval.kind != kind:
        asked = "a question; answer it" if approval.kind == ApprovalKind.INPUT else "a call; approve, edit or deny it"
        raise InvalidTransition(f"This is {asked}.", kind=approval.kind)
    if approval.decision:
        raise decisions.too_late(approval)
    if digest is not None and digest != approval.digest:
        raise ApprovalChanged(digest=approval.digest)


def _person(user: User | None, key: Key | None) -> Person:
    return Person(user.pk, user.get_username(), key) if user else Person(key=key)


def _done(approval: Approval, lanes: Sequence[str]) -> Approval:
    dispatch.wake(lanes)
    return get(approval.workspace_id, approval.pk)


def _edited(approval: Approval, arguments: Any) -> Edit:
    if not isinstance(arguments, dict):
        raise _invalid("arguments", "type", "arguments must be an object.")
    wanted = asking.settled(_storable("arguments", arguments, asking.MAX_SHOWN_BYTES))
    spec = catalogue.get(approval.step.tool, approval.workspace_id)
    names = references.credentials(payloads.unpacked(approval.step.arguments, approval.workspace_id))
    if faults := _faults(spec, wanted, names):
        raise InvalidInput(f"{spec.name} does not take these arguments; see errors.", errors=_argument_faults(faults))
    digest = asking.question(spec.name, wanted).digest
    if digest == approval.digest:
        raise _invalid("arguments", "unchanged", "These are the arguments as they are; approve them instead.")
    return Edit(wanted, digest, _literal(wanted, sealed=bool(names)))


def _faults(spec: ToolSpec, wanted: dict[str, Any], names: Collection[str]) -> list[Fault]:
    """Whoever edits a call may move its credentials, or leave them out, and give it no others."""
    if not names:  # what looks like one then is a text
        return registry.faults(spec, wanted)
    foreign = sealing.marks(wanted) - set(names)
    if foreign:
        message = f"The call has not been given the credentials {', '.join(sorted(foreign))}."
        return [Fault(path="", code="value", message=message)]
    return registry.faults(spec, wanted, skip=sealing.has_mark)


def _argument_faults(faults: Sequence[Fault]) -> list[dict[str, str]]:
    return [
        {
            "path": f"arguments.{fault['path']}".rstrip("."),
            "code": f"argument_{fault['code']}",
            "message": fault["message"],
        }
        for fault in faults[:MAX_FAULTS]
    ]


def _literal(value: Any, *, sealed: bool) -> Any:
    """A template that renders to exactly ``value``: what looks like a reference in it is none, but for the credentials
    of ``sealed`` arguments."""
    if isinstance(value, str):
        return sealing.template(value, references.escape) if sealed else references.escape(value)
    if isinstance(value, list):
        return [_literal(part, sealed=sealed) for part in value]
    return {name: _literal(part, sealed=sealed) for name, part in value.items()} if isinstance(value, dict) else value


def _storable(path: str, value: Any, max_bytes: int) -> Any:
    """What somebody has written is taken as it is or not at all."""
    try:
        same = clean(value, max_bytes=max_bytes)
    except ToolOutputTooLarge:
        raise PayloadTooLarge(f"{path} may have {max_bytes:,} bytes of JSON, nested at most 64 deep.") from None
    if same != value:
        raise _invalid(path, "bad_value", f"{path} may not contain NUL, half a surrogate pair or an endless number.")
    return same


def _check_answer(value: Any, schema: Any) -> None:
    if schema is None:
        return
    try:
        found = schemas.mismatches(value, schema, most=MAX_FAULTS, work=schemas.HURRIED_WORK)
    except schemas.Unusable as error:
        raise _invalid("answer", "bad_value", f"The question's schema cannot be used. {error}") from None
    faults = [
        {"path": _path(error.absolute_path), "code": "bad_value", "message": error.message[:500]} for error in found
    ]
    if faults:
        raise InvalidInput("The answer does not fit the question's schema; see errors.", errors=faults)


def _path(parts: Any) -> str:
    return "".join(["answer", *(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)])[:300]


def _invalid(path: str, code: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"path": path, "code": code, "message": message}])
