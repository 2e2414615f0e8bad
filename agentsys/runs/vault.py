"""Secrets enter a call at the last moment: after every approval, in the process that makes it, and nowhere before.

Until then arguments hold ``${credential.name}`` (see agents.sealed): in plans, events, approvals and their digests,
loops and recorded calls.  What the call gives back is masked before anybody sees it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentsys.accounts import credentials
from agentsys.accounts.credential_terms import may_go_to
from agentsys.accounts.credentials import Caller, Granted
from agentsys.agents import references, sealed
from agentsys.core import http
from agentsys.core.errors import ToolFailed
from agentsys.core.hidden import NOTHING, Hidden
from agentsys.tools import registry, runner
from agentsys.tools.context import FileStore
from agentsys.tools.masking import MaskedFiles
from agentsys.tools.registry import ToolSpec

from .models import Run
from .store.claims import Claim


@dataclass(frozen=True, slots=True)
class Call:
    """A call before its secrets: ``names`` are those in its arguments, which are sealed where there are any."""

    spec: ToolSpec
    arguments: dict[str, Any]
    names: frozenset[str]

    @classmethod
    def of(cls, spec: ToolSpec, template: Any, arguments: dict[str, Any]) -> "Call":
        return cls(spec, arguments, frozenset(references.credentials(template)))

    @property
    def specs(self) -> list[ToolSpec]:
        """The tool, and the one that tells what became of a call of it."""
        check = self.spec.verify
        return [self.spec, registry.get(check)] if check else [self.spec]

    @property
    def skip(self) -> Callable[[Any], bool] | None:
        """Tells which argument has a secret in it, so that it cannot be checked before."""
        return sealed.has_mark if self.names else None

    @property
    def declared(self) -> frozenset[str]:
        """What the tool itself asks for."""
        return frozenset().union(*(spec.secrets for spec in self.specs))


@dataclass(frozen=True, slots=True)
class Entered:
    """A call with its secrets, for the process that makes it."""

    arguments: dict[str, Any] = field(repr=False)
    hidden: Hidden = NOTHING
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def secret(self, name: str) -> str:
        """What a tool gets that has declared it."""
        if name not in self.secrets:
            raise ToolFailed(f"The tool has not declared the secret {name!r}: @tool(secrets=({name!r},)).", secret=name)
        return self.secrets[name]

    def masked(self, files: FileStore) -> FileStore:
        return MaskedFiles(files, self.hidden) if self.hidden else files


def enter(claim: Claim, call: Call) -> Entered:
    """The call with its secrets.  Costs nothing without any, else two queries.

    Raises:
        CredentialUnavailable: one is missing or may not go there; the step waits.
        AddressDenied, ToolFailed: the address is none.
        PayloadTooLarge: the arguments are too large with them.
    """
    needed = call.names | call.declared
    if not needed:
        return Entered(call.arguments)
    agent = Run.objects.values_list("agent_version__agent__slug", flat=True).get(pk=claim.run_id)
    granted = credentials.grant(needed, Caller(claim.workspace_id, call.spec.name, agent, call.spec.server))
    with runner.masked(granted.hidden):
        # Without a credential in the template nothing is sealed: what looks like a mark then is somebody's text.
        arguments = sealed.filled(call.arguments, granted.secrets) if call.names else call.arguments
        for spec in call.specs:
            _check_address(granted, spec.url or arguments.get(spec.address))
    return Entered(arguments, granted.hidden, {name: granted.secrets[name] for name in call.declared})


def _check_address(granted: Granted, address: Any) -> None:
    """Whether all these secrets may go there: a call is made as a whole."""
    if not isinstance(address, str):
        return  # the tool's own check says what is wrong
    origin = http.origin(address)
    for name, hosts in sorted(granted.hosts.items()):
        if not may_go_to(hosts, origin):
            scheme, host, port = origin
            raise granted.refuse(name, f"may not go to {scheme}://{host}:{port}.")
