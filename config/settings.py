"""Settings, all from the environment; a malformed value stops the start with one sentence."""

import os
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

from config import data_folder
from config.database import connection_settings
from config.errors import StartError
from config.postgres import Cluster
from teammates.types import JSON

BASE_DIR = Path(__file__).resolve().parent.parent


def env_bool(name: str, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value not in ("true", "false"):
        raise StartError(f"{name} must be true or false, not {value!r}.")
    return value == "true"


def env_number(name: str, default: float, *, least: float = 0) -> float:
    value = os.environ.get(name)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        raise StartError(f"{name} must be a number, not {value!r}.") from None
    if number < least:
        raise StartError(f"{name} must be at least {least:g}, not {value}.")
    return number


def env_choice(name: str, *choices: str) -> str:
    """One of `choices`; the first if nothing is said."""
    value = os.environ.get(name) or choices[0]
    if value not in choices:
        raise StartError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def env_networks(name: str, default: str) -> list[str]:
    networks = [one.strip() for one in os.environ.get(name, default).split(",") if one.strip()]
    for network in networks:
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise StartError(f"{name} must name addresses or networks, not {network!r}.") from None
    return networks


# --- Where things are ---
DATA_FOLDER = data_folder.path()
FILES_FOLDER = data_folder.private("files")
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
PUBLIC_URL = os.environ.get("MUSTER_PUBLIC_URL", "").rstrip("/")  # empty: as the request came
SERVED_AT = "http://127.0.0.1:8000"  # `manage.py start` says where it listens

# --- Secrets: from the environment, else made once in the data folder ---
SECRET_KEY = os.environ.get("SECRET_KEY") or data_folder.key("secret.key")
ENCRYPTION_KEY = os.environ.get("MUSTER_ENCRYPTION_KEY") or data_folder.key("encryption.key")

DEBUG = env_bool("DEBUG", False)
ALLOWED_HOSTS = [host for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host] or [
    "localhost",
    "127.0.0.1",
    "[::1]",
    *filter(None, [urlsplit(PUBLIC_URL).hostname]),
]  # `manage.py start --host` adds its own
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if o]
HTTPS = env_bool("MUSTER_HTTPS", PUBLIC_URL.startswith("https://"))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = "Lax"
# Whose word about the client behind them counts: X-Forwarded-For, X-Forwarded-Proto.
TRUSTED_PROXIES = env_networks("MUSTER_TRUSTED_PROXIES", "127.0.0.0/8,::1")
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    # No other host of the domain, and nothing unencrypted, sets or reads these.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"

# --- Database ---
DATABASE_THREADS = int(env_number("MUSTER_DATABASE_THREADS", 8, least=2))
REQUEST_THREADS = int(env_number("MUSTER_REQUEST_THREADS", 8, least=2))
PROBE_THREADS = 1
DATABASE_URL = os.environ.get("DATABASE_URL", "")
EMBEDDED = not DATABASE_URL
DATABASES: dict[str, JSON] = {
    "default": connection_settings(
        DATABASE_URL,
        Cluster(data_folder.path()),
        pool_size=DATABASE_THREADS + REQUEST_THREADS + PROBE_THREADS,
        prepared=env_bool("MUSTER_PREPARED_STATEMENTS", True),
    )
}
# LISTEN needs a session of its own: where DATABASE_URL is a PgBouncer, name the server here.
DATABASE_DIRECT_URL = os.environ.get("DATABASE_DIRECT_URL", "")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# How long a sign-in is kept that nothing changed about (`teammates/access_cache.py`).
ACCESS_SECONDS = env_number("MUSTER_ACCESS_SECONDS", 10, least=0)

# --- Runs ---
LEASE_SECONDS = env_number("MUSTER_LEASE_SECONDS", 30, least=0.2)
WORKER_CONCURRENCY = int(env_number("MUSTER_WORKER_CONCURRENCY", 100, least=1))
# For one answer of a model, and for a run at work without a pause, whatever arrives meanwhile.
MODEL_CALL_SECONDS = env_number("MUSTER_MODEL_CALL_SECONDS", 30 * 60, least=1)
# Until a model's first word, and between any two bytes that its server sends.
MODEL_FIRST_SECONDS = env_number("MUSTER_MODEL_FIRST_SECONDS", 300, least=0.1)
MODEL_SILENCE_SECONDS = env_number("MUSTER_MODEL_SILENCE_SECONDS", 300, least=0.1)
RUN_SECONDS = env_number("MUSTER_RUN_SECONDS", 6 * 3600, least=1)
RETRY_SECONDS = env_number("MUSTER_RETRY_SECONDS", 1)  # before the first retry; doubles
# The same for runs that a trigger started, once the quick retries were in vain; times five.
PATIENT_RETRY_SECONDS = env_number("MUSTER_PATIENT_RETRY_SECONDS", 60)
THREAD_QUEUE_LIMIT = int(env_number("MUSTER_THREAD_QUEUE_LIMIT", 20, least=1))
GATHER_SECONDS = env_number("MUSTER_GATHER_SECONDS", 0.04)
SSE_PING_SECONDS = env_number("MUSTER_SSE_PING_SECONDS", 15, least=0.1)
# A question whose options are recommended goes on with those after this long.
AUTO_CONTINUE_SECONDS = env_number("MUSTER_AUTO_CONTINUE_SECONDS", 600, least=1)
# A result that is looked at this fast is not mailed.
RESULT_SECONDS = env_number("MUSTER_RESULT_SECONDS", 300, least=0)
# A decision that is made this fast is not mailed about.
NOTICE_SECONDS = env_number("MUSTER_NOTICE_SECONDS", 60, least=0)
CALLS_PER_MINUTE = int(env_number("MUSTER_CALLS_PER_MINUTE", 60, least=1))  # of one webhook
WEBHOOK_SECONDS = env_number("MUSTER_WEBHOOK_SECONDS", 10, least=0.1)  # for a whole answer
# Where mails for teammates are taken, as host:port; off: nowhere. `--smtp` says otherwise.
SMTP = os.environ.get("MUSTER_SMTP", "127.0.0.1:2525")
POLL_SECONDS = env_number("MUSTER_POLL_SECONDS", 2, least=0.1)
# How often a client may sign in, upload, export and so on (`teammates/trust/limits.py`).
LIMITS = env_bool("MUSTER_LIMITS", True)
MAX_JSON_BYTES = int(env_number("MUSTER_MAX_JSON_BYTES", 4 * 1024 * 1024, least=1))
MAX_UPLOAD_BYTES = int(env_number("MUSTER_MAX_UPLOAD_BYTES", 100 * 1024 * 1024, least=1))
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_JSON_BYTES
# How many runs a person may complete before confirming the mail address; unset: any number.
UNVERIFIED_RUNS = (
    int(env_number("MUSTER_UNVERIFIED_RUNS", 0)) if "MUSTER_UNVERIFIED_RUNS" in os.environ else None
)
# How long the rows of a closed account are kept, and those of the audit log.
ERASE_AFTER_DAYS = env_number("MUSTER_ERASE_AFTER_DAYS", 30)
AUDIT_DAYS = env_number("MUSTER_AUDIT_DAYS", 90)
LOG_DAYS = env_number("MUSTER_LOG_DAYS", 30, least=2)  # of what triggers and webhooks did
# Programs that tools may come from, by their whole paths, and the user that they run as.
PROGRAMS = [path for path in os.environ.get("MUSTER_PROGRAMS", "").split(",") if path]
PROGRAMS_USER = os.environ.get("MUSTER_PROGRAMS_USER", "")
# Where Python that a teammate writes is run (`teammates/sandbox`), and in which image.
SANDBOX = env_choice("MUSTER_SANDBOX", "monty", "docker", "podman", "off")
SANDBOX_IMAGE = os.environ.get("MUSTER_SANDBOX_IMAGE") or "muster-sandbox"
# Web fetch and model providers may reach private addresses only where an operator says so.
ALLOW_PRIVATE_ADDRESSES = env_bool("MUSTER_ALLOW_PRIVATE_ADDRESSES", False)

# --- Django ---
INSTALLED_APPS = [
    # First: a command of theirs takes the place of Django's of that name.
    "teammates",
    "threads",
    "runs",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "corsheaders",
    "django_htmx",
    "template_partials",
    "csp",
    "channels",
    "ninja",
]
MIDDLEWARE = [
    "config.middleware.real_client",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.request_id",
    "config.middleware.known_host",
    "config.middleware.kept_by_no_cache",
    "config.middleware.head_like_get",
    "config.middleware.api_edges",
    "config.middleware.audit_log",
    "config.by_door.by_door",
]
# What is behind them, for pages and for programs, who have no session and draw nothing.
PAGE_MIDDLEWARE = [
    "config.middleware.compressed_pages",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.signed_uploads",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.page_access",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
API_MIDDLEWARE = ["config.middleware.signed_uploads"]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "config.context.shell",
            ],
            "builtins": [
                "django.contrib.humanize.templatetags.humanize",
                "template_partials.templatetags.partials",
                "teammates.templatetags.muster",
                "teammates.templatetags.parts",
            ],
        },
    }
]
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {
        "BACKEND": "threads.storage.WholeFileStorage",
        "OPTIONS": {"location": str(FILES_FOLDER)},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- People ---
AUTH_USER_MODEL = "teammates.User"
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "username", "name")},
    },
    {"NAME": "teammates.people.passwords.VariedPassword"},
]
PASSWORD_RESET_TIMEOUT = 7 * 24 * 3600  # seconds that a link in a mail works
LOGIN_URL = "teammates:sign_in"
LOGIN_REDIRECT_URL = "runs:home"
LOGOUT_REDIRECT_URL = "teammates:sign_in"
SESSION_COOKIE_AGE = 30 * 24 * 3600
ACCESS_TOKEN_SECONDS = 900
REFRESH_TOKEN_SECONDS = 30 * 24 * 3600
REGISTRATION_OPEN = env_bool("MUSTER_REGISTRATION_OPEN", False)

# --- Other hosts whose pages may use the APIs from a browser (contract v1 1.6) ---
CORS_ALLOWED_ORIGINS = [o for o in os.environ.get("MUSTER_CORS_ORIGINS", "").split(",") if o]
CORS_URLS_REGEX = r"^/(v1|api)/"
CORS_ALLOW_CREDENTIALS = True
CORS_ALLOW_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CORS_ALLOW_HEADERS = (
    "authorization",
    "content-type",
    "accept",
    "x-client-app",
    "x-trace-id",
    "idempotency-key",
    "last-event-id",
)
CORS_EXPOSE_HEADERS = ("X-Trace-Id", "X-Next-Cursor", "Retry-After", "Idempotent-Replay")

# --- Time and language ---
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

# --- Nothing is loaded from another host, nothing inline ---
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# Mails start runs where somebody vouches for their sender: the mail server that passes them on, by
# the name with which its Authentication-Results begin. Believed: whatever a mail says.
MAIL_AUTHSERV = os.environ.get("MUSTER_MAIL_AUTHSERV", "")
MAIL_BELIEVED = env_bool("MUSTER_MAIL_BELIEVED", False)

# --- E-mail: into files of the data folder, or through the server that MUSTER_EMAIL_URL names ---
MAIL_DOMAIN = os.environ.get("MUSTER_MAIL_DOMAIN", "muster.localhost")
DEFAULT_FROM_EMAIL = os.environ.get("MUSTER_MAIL_FROM", f"Muster <muster@{MAIL_DOMAIN}>")
EMAIL_TIMEOUT = 20
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = str(data_folder.private("mail"))
if mail_url := os.environ.get("MUSTER_EMAIL_URL"):
    mail = urlsplit(mail_url)
    if mail.scheme not in ("smtp", "smtps") or not mail.hostname:
        raise StartError("MUSTER_EMAIL_URL must be like smtp://user:password@host:587.")
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT = mail.hostname, mail.port or (465 if mail.scheme == "smtps" else 587)
    EMAIL_HOST_USER = unquote(mail.username or "")
    EMAIL_HOST_PASSWORD = unquote(mail.password or "")
    EMAIL_USE_SSL = mail.scheme == "smtps"
    EMAIL_USE_TLS = mail.scheme == "smtp" and bool(mail.username)

LOG_LEVEL = os.environ.get("MUSTER_LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "config.logs.OneLine",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "muster": {"level": LOG_LEVEL},
        "django.request": {"level": "ERROR"},
        "psycopg.pool": {"level": "ERROR"},
    },
}
