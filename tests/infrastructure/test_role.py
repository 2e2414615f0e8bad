"""What ``manage.py prepare`` sets for our role; the tests' own role is one without privileges."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from agentsys.infrastructure import role

WANTED = {"idle_in_transaction_session_timeout": "30s", "lock_timeout": "10s", "enable_seqscan": "off", "jit": "off"}


def settings_of_a_new_connection() -> dict[str, str]:
    own = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    with psycopg.connect(**{name: str(own[django]) for name, django in names.items()}) as fresh:
        return {name: fresh.execute(f"SHOW {name}").fetchone()[0] for name in WANTED}  # type: ignore[index]


@pytest.fixture
def alter(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Alter our role in the tests' database; in the end nothing is left of it."""

    def make(change: str) -> None:
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} {change}")

    yield make
    make("RESET ALL")


def test_new_connections_of_the_role_begin_with_the_time_outs(alter):
    role.set_defaults()
    assert settings_of_a_new_connection() == WANTED
    role.set_defaults()
    assert settings_of_a_new_connection() == WANTED


def test_what_an_operator_has_set_stays(alter):
    alter("SET lock_timeout = '3s'")
    role.set_defaults()
    assert settings_of_a_new_connection() == WANTED | {"lock_timeout": "3s"}


def test_where_it_is_refused_prepare_warns_and_goes_on(alter, capsys, monkeypatch, settings, tmp_path):
    settings.STATIC_ROOT, settings.DEFAULT_ADMIN_PASSWORD = tmp_path / "static", "correct horse battery"
    refused = role.SQL["set_role_defaults"]._replace(text="ALTER ROLE pg_monitor SET jit = off")
    monkeypatch.setitem(role.SQL, "set_role_defaults", refused)

    call_command("prepare")

    assert "did not take the defaults of our role" in capsys.readouterr().err
    assert (tmp_path / "static").is_dir()


def test_a_silent_network_is_noticed():
    options = connection.settings_dict["OPTIONS"]
    assert (options["keepalives"], options["tcp_user_timeout"]) == (1, 15_000)
