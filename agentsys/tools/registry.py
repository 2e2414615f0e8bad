"""The catalogue: every tool by its name.

A tool's signature is its schema, its docstring is what a model reads, its examples are the
imperative phrases that the offline planner matches.  A name is taken once: the second is refused.
"""

import difflib
import importlib
import inspect
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, ParamSpec, TypeVar, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from agentsys.accounts.credential_terms import name_faults
from agentsys.core.errors import ToolUnknown
from agentsys.tools.arguments import Checks, Fault, Signature

Effect = Literal["pure", "idempotent", "verifiable", "unsafe"]
Lane = Literal["network", "compute"]
P = ParamSpec("P")
R = TypeVar("R")

EFFECTS = ("pure", "idempotent", "verifiable", "unsafe")
LANES = ("network", "compute")
Source = Literal["", "tool", "web"]
SOURCES: tuple[Source, ...] = ("", "tool", "web")
MAX_TIMEOUT_S = 86_400.0
#: What providers and the database's column both take.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_BUILTIN_NAMES = (
    "arithmetic clock data files html http language mail pdf observation sandbox search shell table text web"
)
_BUILTIN = tuple(f"agentsys.tools.builtin.{name}" for name in _BUILTIN_NAMES.split())


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the catalogue knows it; ``input_schema`` and ``output_schema`` are JSON Schemas."""

    name: str
    description: str
    effect: Effect
    lane: Lane
    timeout_s: float
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    examples: tuple[str, ...]
    approval: bool
    verify: str | None
    is_async: bool
    function: Callable[..., Any] = field(repr=False)
    signature: Checks = field(repr=False)
    #: JMESPath of what a sentence means by "it" when it speaks of this tool's output ("" = all of it).
    result_path: str = ""
    #: The argument that says where the call goes: credentials go there only if they may.
    address: str = ""
    #: Credentials that the tool itself asks for, by ctx.secret(name).
    secrets: tuple[str, ...] = ()
    #: Where its output comes from, beside its arguments and the run's files; see ``tool``.
    source: str = ""
    #: Of an MCP server's tool: the server's name, and the address that is called whatever the arguments.
    server: str = ""
    url: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """The schema of each argument."""
        found: dict[str, Any] = self.input_schema.get("properties", {})
        return found

    @property
    def repeatable(self) -> bool:
        """Whether a call with an unknown outcome may simply be made again."""
        return self.effect in ("pure", "idempotent")


_tools: dict[str, ToolSpec] = {}
_loading = threading.RLock()
_loaded = False


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tool(
    *,
    effect: Effect,
    lane: Lane | None = None,
    timeout_s: float = 60.0,
    name: str | None = None,
    approval: bool = False,
    verify: str | None = None,
    examples: tuple[str, ...] = (),
    result_path: str = "",
    address: str = "",
    secrets: tuple[str, ...] = (),
    source: Source | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function as a tool; it stays an ordinary function.

    Args:
        effect: What a repetition does: ``pure`` nothing, ``idempotent`` nothing with the same key,
            ``verifiable`` the tool named by ``verify`` can tell, ``unsafe`` harm (asked for, never assumed).
        lane: ``network`` for what waits, ``compute`` for what needs a CPU; the default is network for
            ``async def`` and compute for ``def``.
        timeout_s: Seconds that one call may take, unless its step says otherwise.
        name: ``module.function`` unless given.
        verify: The name of the tool that tells what became of a ``verifiable`` call whose end nobody saw: a
            ``pure`` or ``idempotent`` one that takes the context and any of the same arguments.  It gives
            ``{"outcome": "done", "result": …}``, ``{"outcome": "not_done"}`` (the call is made again, with the
            same key) or ``{"outcome": "unknown"}`` (asked again a few times, then a person is).  "Not done"
            must stay true: a request still under way may land after it, so let the other side know the key.
        address: The argument with the web address that is called: a credential in the arguments must be allowed to
            go to its host.  A tool that calls an address of its own choosing names none.
        secrets: Names of credentials of the workspace that the tool asks for with ``ctx.secret(name)``; the step
            waits while one of them is missing, or does not allow this tool.
        source: Where its output comes from: ``web`` where anybody may have written it (a page, a mailbox, a ticket), so
            that a call that cannot be taken back is not given it without a person's word; ``tool``; or "" where it has
            only what it was given, which is what a ``pure`` tool is taken for unless it says so.

    Raises:
        TypeError: the declaration is not usable; its message says what to change.
        ValueError: the name is taken.
    """
    if function is not None:
        raise TypeError(f"@tool on {function.__qualname__} needs its effect: @tool(effect='pure')")

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        _register(_spec(function, **options))
        return function

    return declare


def _spec(
    function: Callable[..., Any],
    *,
    effect: Any = None,
    lane: Any = None,
    timeout_s: float = 60.0,
    name: str | None = None,
    approval: bool = False,
    verify: str | None = None,
    examples: tuple[str, ...] = (),
    result_path: str = "",
    address: str = "",
    secrets: tuple[str, ...] = (),
    source: Any = None,
) -> ToolSpec:
    name = name or f"{function.__module__}.{function.__name__}"
    is_async = inspect.iscoroutinefunction(function)
    lane = lane or ("network" if is_async else "compute")
    description = inspect.cleandoc(function.__doc__ or "")
    _check(name, effect=effect, lane=lane, timeout_s=timeout_s, verify=verify, description=description)
    signature = Signature.of(function, name)
    _check_secrets(name, signature, address, secrets)
    if source not in (None, *SOURCES):
        raise TypeError(f"Tool {name}: source must be one of {', '.join(map(repr, SOURCES))}, not {source!r}.")
    return ToolSpec(
        name=name,
        description=description,
        effect=effect,
        lane=lane,
        timeout_s=float(timeout_s),
        input_schema=signature.input_schema,
        output_schema=signature.output_schema,
        examples=(examples,) if isinstance(examples, str) else tuple(examples),
        approval=approval,
        verify=verify,
        is_async=is_async,
        function=function,
        signature=signature,
        result_path=result_path,
        address=address,
        secrets=tuple(secrets),
        source=("" if effect == "pure" else "tool") if source is None else source,
    )


def _check_secrets(name: str, signature: Signature, address: str, secrets: tuple[str, ...]) -> None:
    if address and address not in signature.names.values():
        raise TypeError(f"Tool {name}: address={address!r} is none of its parameters.")
    if isinstance(secrets, str) or list(chain.from_iterable(map(name_faults, secrets))):
        raise TypeError(f"Tool {name}: secrets must be a tuple of credentials' names.")
    if secrets and signature.context is None:
        raise TypeError(f"Tool {name}: it needs ctx: ToolContext to ask for its secrets.")


def _check(name: str, *, effect: Any, lane: Any, timeout_s: float, verify: str | None, description: str) -> None:
    """Raises TypeError for a declaration that could not work later."""
    wrong = {
        f"its name may have letters, digits, _ and dots, at most 100: {name!r}": (
            not _NAME.fullmatch(name) or len(name) > 100
        ),
        f"effect must be one of {', '.join(EFFECTS)}, not {effect!r}": effect not in EFFECTS,
        f"lane must be network or compute, not {lane!r}": lane not in LANES,
        f"timeout_s must be above 0 and at most {MAX_TIMEOUT_S:g}": not 0 < timeout_s <= MAX_TIMEOUT_S,
        "effect='verifiable' needs verify='name of the tool that checks'": (
            (effect == "verifiable") is not bool(verify)
        ),
        "it needs a docstring: that is what a model reads": not description,
    }
    for message, fault in wrong.items():
        if fault:
            raise TypeError(f"Tool {name}: {message}.")


def _register(spec: ToolSpec) -> None:
    with _loading:
        if spec.name in _tools:
            taken = _tools[spec.name].function
            raise ValueError(f"Tool {spec.name} is declared twice; the first is {taken.__module__}.")
        _tools[spec.name] = spec


def load() -> None:
    """Import the built-in tools and settings.TOOL_MODULES, once a process.

    Raises:
        ImproperlyConfigured: a module does not import, or a tool's ``verify`` names none; the message says which.
    """
    global _loaded
    with _loading:
        if _loaded:
            return
        for module in (*_BUILTIN, *settings.TOOL_MODULES):
            _import(module)
        _check_verifiers()
        _loaded = True


def _check_verifiers() -> None:
    """Only when all are loaded: the check may be declared after what it checks, or in another module."""
    for spec in _tools.values():
        if spec.verify and (wrong := _unfit(spec, _tools.get(spec.verify))):
            raise ImproperlyConfigured(
                f"AGENTSYS_TOOL_MODULES: {spec.name} is declared with verify={spec.verify!r}, which {wrong}."
            )


def _unfit(spec: ToolSpec, check: ToolSpec | None) -> str:
    """Why ``check`` cannot tell of a call of ``spec``; "" if it can."""
    if check is None or check is spec:
        return "is no other tool"
    if not check.repeatable:
        return f"is {check.effect}: a check must be pure or idempotent"
    if missing := set(check.input_schema.get("required", ())) - set(spec.parameters):
        return f"needs {', '.join(sorted(missing))}, and {spec.name} has no such argument"
    return ""


def _import(module: str) -> None:
    before = dict(_tools)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's module raises, the start must name it
        _tools.clear()
        _tools.update(before)  # or a second try would complain of what the first one left
        reason = f"{type(error).__name__}: {error}"
        raise ImproperlyConfigured(f"AGENTSYS_TOOL_MODULES: cannot import {module!r}: {reason}") from error


def all_tools() -> dict[str, ToolSpec]:
    """Every tool by name, in the order of their names."""
    load()
    return dict(sorted(_tools.items()))


def get(name: str) -> ToolSpec:
    """The tool of this name.

    Raises:
        ToolUnknown: there is none; ``nearest`` in its data lists up to three names like it.
    """
    load()
    if spec := _tools.get(name):
        return spec
    nearest = difflib.get_close_matches(str(name)[:200], _tools, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    shown = str(name)[:200]
    raise ToolUnknown(f"There is no tool named {shown!r}.{hint}", tool=shown, nearest=nearest)


def faults(spec: ToolSpec, arguments: Mapping[str, Any], *, skip: Callable[[Any], bool] | None = None) -> list[Fault]:
    """Every fault of the arguments, none if the call may be made; see arguments.faults."""
    return spec.signature.faults(arguments, skip=skip)
