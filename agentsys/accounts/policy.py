"""Who may do what: the one table that REST, the admin and the command line ask.

An action is ``resource.verb``.  Each role may do what the roles before it may.  A superuser is an
admin in every workspace.  What no role is given here, nobody may.
"""

from collections.abc import Mapping

from agentsys.accounts.models import Role

_ADDED: Mapping[Role, frozenset[str]] = {
    Role.VIEWER: frozenset(
        {
            "runs.read",
            "agents.read",
            "tools.read",
            "mcp.read",
            "workers.read",
            "budgets.read",
            "lanes.read",
            "retention.read",
        }
    ),
    Role.OPERATOR: frozenset(
        {
            "runs.submit",
            "runs.cancel",
            "runs.resolve",
            "runs.pause",
            "runs.resume",
            "runs.retry",
            "runs.fork",
            "runs.message",
            "approvals.decide",
        }
    ),
    Role.AUTHOR: frozenset({"agents.write", "mcp.write", "credentials.read"}),
    Role.ADMIN: frozenset(
        {
            "members.read",
            "members.write",
            "budgets.write",
            "lanes.write",
            "mcp.trust",
            "retention.write",
            "credentials.write",
        }
    ),
}
PERMITTED: Mapping[Role, frozenset[str]] = {
    role: frozenset().union(*list(_ADDED.values())[: rank + 1]) for rank, role in enumerate(_ADDED)
}
ACTIONS = PERMITTED[Role.ADMIN]


def allows(role: str | None, action: str) -> bool:
    """Whether a member of this role may do this; ``None`` (no member) may nothing.

    Raises:
        ValueError: there is no such action: a mistake in the caller, not a refusal.
    """
    if action not in ACTIONS:
        raise ValueError(f"policy.py knows no action {action!r}")
    return role is not None and action in PERMITTED[Role(role)]
