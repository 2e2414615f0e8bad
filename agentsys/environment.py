"""The environment, read once and typed.  ``settings.py`` is the only reader.

Bare names (``DATABASE_URL``…) and ``AGENTSYS_…`` names are listed in README.md.  Every name has a
``…_FILE`` form that names a file holding the value (container secrets).
"""

import difflib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from agentsys.core.crypto import as_key
from agentsys.core.errors import ModelFailed
from agentsys.core.mailboxes import MAILBOX
from agentsys.llm import names

BARE = {
    "DATABASE_URL",
    "REDIS_URL",
    "SECRET_KEY",
    "JWT_SECRET_KEY",
    "DEFAULT_ADMIN_PASSWORD",
    "DB_POOL_SIZE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OLLAMA_API_KEY",
    "OLLAMA_BASE_URL",
}
PREFIX = "AGENTSYS_"
#: Read by the Makefile or a tool and not by the settings; not a typing mistake.
FOREIGN = {"AGENTSYS_ENV_FILE"}
#: Checked, and may hold a password.
SECRETS = {"smtp_url", "vault_keys"}
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+):([0-9]{1,5})")
#: A heartbeat interval that is a greater share of the lease would lose it to a single late one.
MOST_OF_LEASE = 0.4

_SUCH_AS = {
    "mcp_commands": '{"time": ["mcp-server-time", "*"]}',
    "model_limits": '{"openai": {"requests": 500, "tokens": 200000}}',
}


#: In no repr; and :func:`read` repeats none that is wrong.
Secret = Annotated[str, Field(repr=False)]


class Environment(BaseModel):
    """Every setting that an operator can change, with its default and its bounds."""

    model_config = ConfigDict(populate_by_name=True, extra="forbid", frozen=True)

    database_url: Secret = ""
    redis_url: Secret = ""
    secret_key: Secret = ""
    jwt_secret_key: Secret = ""
    default_admin_password: Secret = ""
    vault_keys: Annotated[tuple[str, ...], Field(repr=False)] = ()
    db_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10

    data_dir: Path = Path(".agentsys")
    debug: bool = False
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    csrf_trusted_origins: tuple[str, ...] = ()
    https: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    flower_port: Annotated[int, Field(ge=0, le=65535)] = 5555
    flower_url: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    metrics_token: Secret = ""

    model: str = "offline"
    openai_api_key: Secret = ""
    openai_base_url: str = ""
    anthropic_api_key: Secret = ""
    anthropic_base_url: str = ""
    ollama_api_key: Secret = ""
    ollama_base_url: str = ""
    tool_modules: tuple[str, ...] = ()
    http_allow: tuple[str, ...] = ()
    mcp_commands: dict[str, tuple[str, ...]] = {}
    search_url: str = ""
    smtp_url: str = ""
    mail_from: str = ""
    mail_allow: tuple[str, ...] = ()

    lease_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    #: A third of the lease unless given: two may get lost.
    heartbeat_s: Annotated[float, Field(ge=0.1, le=1200)] = Field(default_factory=lambda given: given["lease_s"] / 3)
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    slice_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    retry_base_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    retry_cap_s: Annotated[float, Field(gt=0, le=86400)] = 300.0
    keep_runs_days: Annotated[float, Field(ge=0, le=36_500)] = 90.0
    keep_history_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    keep_keys_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    run_max_steps: Annotated[int, Field(ge=1, le=1000)] = 1000
    lane_slots: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    run_max_depth: Annotated[int, Field(ge=0, le=50)] = 5
    run_max_children: Annotated[int, Field(ge=0, le=1000)] = 100
    run_max_plans: Annotated[int, Field(ge=1, le=50)] = 5
    act_max_turns: Annotated[int, Field(ge=1, le=200)] = 50
    run_max_repeats: Annotated[int, Field(ge=1, le=1000)] = 3
    plan_max_fan_out: Annotated[int, Field(ge=1, le=1000)] = 200
    step_max_attempts: Annotated[int, Field(ge=1, le=20)] = 5
    db_mode: Literal["pool", "persistent"] = "pool"
    db_prepare: bool = True
    approval_expires_s: Annotated[float, Field(gt=0, le=31_536_000)] = 604_800.0
    step_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    model_max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    model_limits: dict[names.Account, dict[Literal["requests", "tokens"], Annotated[int, Field(ge=1, le=10**12)]]] = {}
    model_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    max_output_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 10_000_000
    runs_per_minute: Annotated[int, Field(ge=0, le=10_000_000)] = 0

    @field_validator("vault_keys")
    @classmethod
    def _keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(as_key(key) for key in value)

    @field_validator(
        "vault_keys", "tool_modules", "http_allow", "mail_allow", "allowed_hosts", "csrf_trusted_origins", mode="before"
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("mcp_commands", "model_limits", mode="before")
    @classmethod
    def _json(cls, value: Any, given: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value or "{}")
        except ValueError:
            raise ValueError(f"not JSON such as {_SUCH_AS[given.field_name or '']}") from None

    @field_validator("mcp_commands")
    @classmethod
    def _commands_to_start(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, command in value.items():
            if not command or command[0] in ("", "*") or len(name) > 100:
                raise ValueError(f"{name!r} needs a program first, then its arguments, then perhaps *")
        return value

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        """One that no provider could be found for would fail every run, one by one."""
        if value != names.OFFLINE:
            try:
                names.split(value)
            except ModelFailed as error:
                raise ValueError(error.message.removesuffix(".")) from None
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("search_url", "smtp_url")
    @classmethod
    def _an_address(cls, value: str, given: ValidationInfo) -> str:
        """What could not be called would fail every step, one by one.  The error repeats no password."""
        schemes = ("http", "https") if given.field_name == "search_url" else ("smtp", "smtps")
        if value and not _is_address(value, schemes):
            raise ValueError(f"not an address such as {schemes[-1]}://host:port")
        return value

    @field_validator("mail_from", "mail_allow")
    @classmethod
    def _mailboxes(cls, value: str | tuple[str, ...], given: ValidationInfo) -> str | tuple[str, ...]:
        for one in (value,) if isinstance(value, str) else value:
            is_domain = given.field_name == "mail_allow" and one.startswith("@")
            if one and not MAILBOX.fullmatch("x" + one if is_domain else one):
                raise ValueError(f"{one!r} is no mail address such as ada@example.org")
        return value

    @field_validator("http_allow")
    @classmethod
    def _host_and_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """One that names no port would let nothing through, and nobody would be told."""
        for entry in value:
            if not (found := _HOST_AND_PORT.fullmatch(entry)) or not 0 < int(found[1]) <= 65535:
                raise ValueError(f"{entry!r} is not host:port, such as 10.0.0.5:8080 or [fd00::5]:8080")
        return value

    @field_validator("heartbeat_s")
    @classmethod
    def _within_the_lease(cls, value: float, given: ValidationInfo) -> float:
        """One that comes late or gets lost must not cost the lease."""
        lease_s = given.data.get("lease_s", math.inf)
        if value > MOST_OF_LEASE * lease_s:
            raise ValueError(
                f"a heartbeat may take at most {MOST_OF_LEASE} of AGENTSYS_LEASE_S ({lease_s:g} s), "
                f"so at most {MOST_OF_LEASE * lease_s:g} s"
            )
        return value


def read(environ: Mapping[str, str] = os.environ) -> Environment:
    """Read and check the whole environment; raise one error that names every fault."""
    # Each source by itself: a SECRET_KEY_FILE of the environment beats the SECRET_KEY of a .env file.
    given = {**_own_names(_dotenv(environ)), **_own_names(environ)}
    try:
        return Environment.model_validate(given)
    except ValidationError as error:
        faults = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        lines = [f"{_variable(e['loc'][0])}={_shown(e)}: {e['msg'].removeprefix('Value error, ')}" for e in faults]
        raise ImproperlyConfigured("; ".join(lines)) from None


def _shown(fault: Mapping[str, Any]) -> str:
    """What was given; not where a password may be in it."""
    return "…" if fault["loc"][0] in SECRETS else repr(fault["input"])


def _dotenv(environ: Mapping[str, str]) -> dict[str, str]:
    path = Path(environ.get("AGENTSYS_ENV_FILE", ".env"))
    try:
        if not path.exists() and not path.is_symlink():  # a link to nowhere is a secret that was not mounted
            return {}
        with path.open(encoding="utf-8") as lines:
            bindings = list(parse_stream(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{path} cannot be read: {error}") from None
    for binding in bindings:
        if binding.error or (binding.key and binding.value is None):
            raise ImproperlyConfigured(f"{path}, line {binding.original.line}: not NAME=value")
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _own_names(values: Mapping[str, str]) -> dict[str, str]:
    known = {_variable(field): field for field in Environment.model_fields}
    given: dict[str, str] = {}
    for name, raw in values.items():
        plain = name.removesuffix("_FILE")
        if name in FOREIGN:
            continue
        if name in known:
            given[known[name]] = raw
        elif name != plain and plain in known:
            given.setdefault(known[plain], _from_file(name, raw))
        elif name.startswith(PREFIX):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ImproperlyConfigured(f"{name} is not a setting of agentsys{hint}")
    return given


def _from_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}={path!r} cannot be read: {error}") from None


def _variable(field: Any) -> str:
    upper = str(field).upper()
    return upper if upper in BARE else PREFIX + upper


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def embedded_services(data_dir: Path) -> dict[str, str]:
    """Addresses of the embedded services of this folder, as their supervisor wrote them; {} if none."""
    try:
        found = json.loads((data_dir / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
