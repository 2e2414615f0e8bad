"""Every setting, read once from the environment; a fault stops the start with one clear message."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from agentsys import environment
from agentsys.core import crypto, pool
from agentsys.core.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = environment.read()
DATA_DIR = ENV.data_dir.absolute()
_SERVICES = environment.embedded_services(DATA_DIR)

# --- Secrets --------------------------------------------------------------------------
SECRET_KEY = ENV.secret_key or _SERVICES.get("secret_key", "")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY must be set (or start the embedded services: make up)")
JWT_SECRET_KEY = ENV.jwt_secret_key or f"jwt:{SECRET_KEY}"
#: Of the credentials' secrets: the first encrypts, all open.  The one made by `make up` stands in for those that were
#: not given; the last is for who has neither, and opens what was written before there was another.
_KEPT_KEYS = [crypto.as_key(_SERVICES["vault_key"])] if "vault_key" in _SERVICES else []
VAULT_KEYS = [*(ENV.vault_keys or _KEPT_KEYS), crypto.derived_key(SECRET_KEY)]
DEFAULT_ADMIN_PASSWORD = ENV.default_admin_password

# --- Web ------------------------------------------------------------------------------
DEBUG = ENV.debug
HOST, PORT = ENV.host, ENV.port
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.csrf_trusted_origins)
ROOT_URLCONF = "agentsys.urls"
ASGI_APPLICATION = "agentsys.asgi.application"
DATA_UPLOAD_MAX_MEMORY_SIZE = ENV.max_body_bytes
APPEND_SLASH = False  # both forms are routed; a redirect would drop a POST's body
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = ENV.https
SECURE_HSTS_SECONDS = 31_536_000 if ENV.https else 0
if ENV.https:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Unfold's Alpine evaluates expressions and sets inline styles; only the admin's path is relaxed for it.
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
ADMIN_CONTENT_SECURITY_POLICY = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_prometheus",
    "django_structlog",
    "csp",
    "agentsys.accounts",
    "agentsys.tools",
    "agentsys.agents",
    "agentsys.runs",
    "agentsys.infrastructure",
    "agentsys.api",
    "agentsys.dashboard",
    "agentsys.observability",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "agentsys.dashboard.csp.PolicyMiddleware",
    "agentsys.dashboard.csp.admin_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "agentsys.observability.requests.LoggedRequests",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ]
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
LANGUAGE_CODE, TIME_ZONE, USE_TZ, USE_I18N = "en", "UTC", True, True
SILENCED_SYSTEM_CHECKS = ["models.W045"]  # constraints in SQL are PostgreSQL's to check, not a form's
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# --- Database -------------------------------------------------------------------------
#: For TCP; libpq leaves them alone on a socket file.  A server or a network that falls silent is noticed in 25 s
#: while we wait for an answer, in 15 s while we send; else a thread would wait for hours.
_TCP = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
}


def _database(url: str) -> dict[str, Any]:
    # The invalid host makes the driver's own error say what to do.
    pooled = bool(url) and ENV.db_mode == "pool"
    url = url or "postgresql://set-DATABASE_URL-or-run-make-up.invalid/agentsys"
    try:
        part = conninfo_to_dict(url)
    except ProgrammingError:  # its text repeats the address, with the password
        shape = "postgresql://user:password@host:5432/database"
        raise ImproperlyConfigured(f"DATABASE_URL is not a PostgreSQL address such as {shape}") from None
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    options: dict[str, Any] = _TCP | {k: v for k, v in part.items() if k not in names}
    options["prepare_threshold"] = 5 if ENV.db_prepare else None
    options.setdefault("connect_timeout", 5)
    if pooled:  # a request or a step waits for a connection, it does not fail
        options["pool"] = {"min_size": 0, "max_size": ENV.db_pool_size, "timeout": 60, "max_idle": 60}
        options["pool"] |= {"reconnect_timeout": pool.RECONNECT_TIMEOUT_S, "reconnect_failed": pool.keep_trying}
    return {
        "ENGINE": "agentsys.core.postgresql",
        **{django: str(part.get(libpq, "")) for libpq, django in names.items()},
        "CONN_MAX_AGE": 0 if pooled else None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


DATABASES = {"default": _database(ENV.database_url or _SERVICES.get("database_url", ""))}
REDIS_URL = ENV.redis_url or _SERVICES.get("redis_url", "redis://127.0.0.1:6379/0")

# --- Accounts -------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# --- REST -----------------------------------------------------------------------------
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["agentsys.api.auth.WorkspaceJWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["agentsys.api.auth.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["agentsys.api.parsing.StrictJSONParser"],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "agentsys.api.errors.problem_response",
}
SIMPLE_JWT = {
    "SIGNING_KEY": JWT_SECRET_KEY,
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "agentsys",
    "DESCRIPTION": "Durable AI agents: submit a goal, watch its plan, get its result.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "StepKind": "agentsys.runs.states.StepKind",
        "ApprovalKind": "agentsys.runs.states.ApprovalKind",
        "VersionStatus": "agentsys.agents.models.VersionStatus",
        "NewVersionStatus": "agentsys.api.agents.STATUSES",
    },
    "PREPROCESSING_HOOKS": ["agentsys.api.schema.without_slash_twins"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "agentsys.api.schema.with_problems",
    ],
}

# --- Admin ----------------------------------------------------------------------------
_INDIGO = ("96.2% .018 272", "93% .034 273", "87% .065 274", "78.5% .115 275", "67.3% .182 277", "58.5% .233 277",
           "51.1% .262 277", "45.7% .24 277", "39.8% .195 277", "35.9% .144 279", "25.7% .09 281")  # fmt: skip
_WEIGHTS = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 950)
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "agentsys",
    "SITE_HEADER": "agentsys",
    "SITE_SUBHEADER": "Durable AI agents",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}dashboard/icon.svg"}],
    "STYLES": [f"{STATIC_URL}dashboard/dashboard.css"],
    "SCRIPTS": [f"{STATIC_URL}dashboard/live.js"],
    "COLORS": {"primary": {str(w): f"oklch({value})" for w, value in zip(_WEIGHTS, _INDIGO, strict=True)}},
    "SIDEBAR": {"show_search": False, "navigation": "agentsys.dashboard.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "agentsys.dashboard.overview.index_context",
}

# --- Models and tools -----------------------------------------------------------------
MODEL = ENV.model
MODEL_PROVIDERS = "agentsys.llm.providers.ask"  # by name: heavy libraries, for workers only
MODEL_PRICES = "agentsys.llm.providers.price"
OPENAI_API_KEY, OPENAI_BASE_URL = ENV.openai_api_key, ENV.openai_base_url
ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL = ENV.anthropic_api_key, ENV.anthropic_base_url
OLLAMA_API_KEY, OLLAMA_BASE_URL = ENV.ollama_api_key, ENV.ollama_base_url
TOOL_MODULES = ENV.tool_modules
HTTP_ALLOW = ENV.http_allow
MCP_COMMANDS = ENV.mcp_commands
MCP_TOOLS_OF = "agentsys.tools.mcp.calls.tools_of"  # by name: heavy too, for those who talk to a server
MCP_CALL = "agentsys.tools.mcp.calls.call"
SEARCH_URL = ENV.search_url
SMTP_URL, MAIL_FROM, MAIL_ALLOW = ENV.smtp_url, ENV.mail_from, ENV.mail_allow
MAX_OUTPUT_BYTES = ENV.max_output_bytes
#: Runs that a workspace may submit a minute; 0: as many as it likes.
RUNS_PER_MINUTE = ENV.runs_per_minute
MAX_BODY_BYTES = ENV.max_body_bytes
MODEL_MAX_TOKENS = ENV.model_max_tokens  # of one answer, where a budget limits what it may cost
MODEL_TIMEOUT_S = ENV.model_timeout_s
MODEL_LIMITS = ENV.model_limits  # requests and tokens a minute of each provider's key, for all workers together

# --- Engine limits: everything has a limit ----------------------------------------------
LEASE_S = ENV.lease_s
HEARTBEAT_S = ENV.heartbeat_s
DRAIN_S = ENV.drain_s
SLICE_S = ENV.slice_s
RETRY_BASE_S = ENV.retry_base_s
RETRY_CAP_S = ENV.retry_cap_s
RUN_MAX_STEPS = ENV.run_max_steps
#: Days after its end; 0: for ever.  Events and attempts, and idempotency keys, may leave before their runs.
KEEP_RUNS_DAYS, KEEP_HISTORY_DAYS, KEEP_KEYS_DAYS = ENV.keep_runs_days, ENV.keep_history_days, ENV.keep_keys_days
LANE_SLOTS = ENV.lane_slots  # of a workspace in each lane, unless its admin says otherwise
RUN_MAX_DEPTH, RUN_MAX_CHILDREN = ENV.run_max_depth, ENV.run_max_children
RUN_MAX_PLANS, PLAN_MAX_FAN_OUT = ENV.run_max_plans, ENV.plan_max_fan_out
RUN_MAX_REPEATS = ENV.run_max_repeats
ACT_MAX_TURNS = ENV.act_max_turns
STEP_MAX_ATTEMPTS = ENV.step_max_attempts
STEP_TIMEOUT_S = ENV.step_timeout_s
APPROVAL_EXPIRES_S = ENV.approval_expires_s
DISPATCHER = "workers.dispatch.ring"  # the one way from here up to Celery

# --- Watching -------------------------------------------------------------------------
FLOWER_URL = ENV.flower_url
METRICS_TOKEN = ENV.metrics_token
LOGGING = logging_config(ENV.log_level)
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = 10  # DEBUG: one line a request, when it has ended
PROMETHEUS_EXPORT_MIGRATIONS = False
