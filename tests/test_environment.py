"""What an operator writes: which source wins, and what cannot be meant."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from agentsys import environment
from agentsys import settings as project_settings


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Read an environment beside a .env file; ``files`` are written first, ``{here}`` is their folder."""

    def make(environ: dict[str, str], dotenv: str = "", **files: str) -> environment.Environment:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        (tmp_path / ".env").write_text(dotenv.replace("{here}", str(tmp_path)))
        given = {name: value.replace("{here}", str(tmp_path)) for name, value in environ.items()}
        return environment.read({"AGENTSYS_ENV_FILE": str(tmp_path / ".env"), **given})

    return make


@pytest.mark.parametrize(
    ("environ", "dotenv", "wins"),
    [
        ({"SECRET_KEY_FILE": "{here}/secret"}, "SECRET_KEY=plain", "from the file"),
        ({"SECRET_KEY": "plain"}, "SECRET_KEY_FILE={here}/secret", "plain"),
        ({"SECRET_KEY": "plain"}, "SECRET_KEY=other", "plain"),
        ({}, "SECRET_KEY_FILE={here}/secret", "from the file"),
        ({"SECRET_KEY": "plain", "SECRET_KEY_FILE": "{here}/secret"}, "", "plain"),
    ],
)
def test_the_environment_beats_the_file_in_either_form(read: Any, environ: Any, dotenv: str, wins: str) -> None:
    assert read(environ, dotenv, secret="from the file\n").secret_key == wins


def test_a_heartbeat_is_a_third_of_the_lease_unless_it_is_given(read: Any) -> None:
    assert read({}).heartbeat_s == 10
    assert read({"AGENTSYS_LEASE_S": "6"}).heartbeat_s == 2
    assert read({"AGENTSYS_LEASE_S": "6", "AGENTSYS_HEARTBEAT_S": "1"}).heartbeat_s == 1


@pytest.mark.parametrize(
    "environ", [{"AGENTSYS_HEARTBEAT_S": "20"}, {"AGENTSYS_LEASE_S": "10", "AGENTSYS_HEARTBEAT_S": "4.1"}], ids=str
)
def test_a_lease_that_ends_between_two_heartbeats_is_refused(read: Any, environ: dict[str, str]) -> None:
    message = r"AGENTSYS_HEARTBEAT_S='[\d.]+': .*at most 0.4 of AGENTSYS_LEASE_S \(\d+ s\), so at most \d+ s"
    with pytest.raises(ImproperlyConfigured, match=message) as caught:
        read(environ)
    assert ";" not in str(caught.value)


def test_a_wrong_lease_is_one_fault_and_not_two(read: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^AGENTSYS_LEASE_S='soon': [^;]*$"):
        read({"AGENTSYS_LEASE_S": "soon"})


@pytest.mark.parametrize(
    "allowed", ["10.0.0.5", "x", "http://10.0.0.5:80", "10.0.0.5:0", "10.0.0.5:65536", "fd00::5:80", "a:80,b", ":80"]
)
def test_a_host_without_a_port_lets_nothing_through_and_is_refused(read: Any, allowed: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^AGENTSYS_HTTP_ALLOW=.*is not host:port"):
        read({"AGENTSYS_HTTP_ALLOW": allowed})


def test_hosts_with_ports_are_let_through(read: Any) -> None:
    allowed = ("localhost:80", "10.0.0.5:8080", "[fd00::5]:443")
    assert read({"AGENTSYS_HTTP_ALLOW": ", ".join(allowed)}).http_allow == allowed


def test_a_log_level_is_one_that_there_is_in_any_case(read: Any) -> None:
    assert read({"AGENTSYS_LOG_LEVEL": "debug"}).log_level == "DEBUG"
    with pytest.raises(ImproperlyConfigured, match=r"^AGENTSYS_LOG_LEVEL='LOUD': "):
        read({"AGENTSYS_LOG_LEVEL": "loud"})


@pytest.mark.parametrize("model", ["foo:bar", "openai", "openai:", "openai: ", ":x", "", "Offline", "gpt-x"])
def test_a_model_that_there_is_not_stops_the_start_and_names_what_is_known(read: Any, model: str) -> None:
    with pytest.raises(
        ImproperlyConfigured, match=r"^AGENTSYS_MODEL='.*': .* use offline or one of .*ollama:"
    ) as caught:
        read({"AGENTSYS_MODEL": model})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["offline", "openai-chat:gpt-x", "openai:o", "anthropic:claude", "ollama:llama3:8b"])
def test_models_of_every_provider_are_taken(read: Any, model: str) -> None:
    assert read({"AGENTSYS_MODEL": model}).model == model


def test_an_unknown_name_is_refused_with_the_nearest_one_wherever_it_stands(read: Any) -> None:
    hint = re.escape("AGENTSYS_MODLE is not a setting of agentsys; did you mean AGENTSYS_MODEL?")
    for environ, dotenv in (({"AGENTSYS_MODLE": "x"}, ""), ({}, "AGENTSYS_MODLE=x")):
        with pytest.raises(ImproperlyConfigured, match=hint):
            read(environ, dotenv)


def test_names_of_the_contract_that_nothing_uses_yet_are_let_be(read: Any) -> None:
    assert read({"MAX_LEARNING_PATTERNS": "100"}) == read({})


@pytest.mark.parametrize("line", ["foo bar", "=x", "NAME"])
def test_a_broken_line_of_the_env_file_is_named(tmp_path, line):
    file = tmp_path / ".env"
    file.write_text(f"AGENTSYS_PORT=8001\n{line}\n")

    with pytest.raises(ImproperlyConfigured, match="line 2: not NAME=value"):
        environment.read({"AGENTSYS_ENV_FILE": str(file)})


@pytest.mark.parametrize("url", ["mysql://me:hunter2@db/x", "postgresql://me:hunter2%zz@db/x", "hunter2"])
def test_an_address_that_is_none_is_not_repeated_with_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL is not a PostgreSQL address") as caught:
        project_settings._database(url)
    assert "hunter2" not in str(caught.value)


def test_an_env_file_that_is_a_folder_or_leads_nowhere_is_refused(tmp_path):
    """A container engine makes a folder of what it is to mount and does not find."""
    folder, nowhere = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    nowhere.symlink_to(tmp_path / "secret")

    for path in (folder, nowhere):
        with pytest.raises(ImproperlyConfigured, match=f"{path} cannot be read"):
            environment.read({"AGENTSYS_ENV_FILE": str(path), "SECRET_KEY": "x" * 50})


def test_no_env_file_and_an_empty_one_are_none(tmp_path):
    for path in (tmp_path / "none", os.devnull):
        assert environment.read({"AGENTSYS_ENV_FILE": str(path), "SECRET_KEY": "x" * 50}).secret_key == "x" * 50


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SMTP_URL", "http://me:hunter2@mail.example.org"),
        ("SMTP_URL", "smtp://me:hunter2@"),
        ("SMTP_URL", "smtp://me:hunter2@host:99999"),
        ("SMTP_URL", "hunter2"),
        ("SEARCH_URL", "ftp://search"),
        ("SEARCH_URL", "search:8080"),
        ("MAIL_FROM", "Agents <a@example.org>"),
        ("MAIL_FROM", "@example.org"),
        ("MAIL_ALLOW", "a@example.org,*"),
        ("MAIL_ALLOW", "example.org"),
        ("MAIL_ALLOW", "@"),
    ],
)
def test_mail_and_search_that_could_never_work_stop_the_start_without_a_password_in_it(
    read: Any, name: str, value: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"AGENTSYS_{name}=") as caught:
        read({f"AGENTSYS_{name}": value})
    assert "hunter2" not in str(caught.value)


def test_mail_and_search_as_they_are_meant(read: Any) -> None:
    given = read(
        {
            "AGENTSYS_SMTP_URL": "smtps://me:p%40ss@mail.example.org:465",
            "AGENTSYS_SEARCH_URL": "http://searxng:8080/",
            "AGENTSYS_MAIL_FROM": "agents@example.org",
            "AGENTSYS_MAIL_ALLOW": "ada@example.com, @example.org",
        }
    )
    assert given.mail_allow == ("ada@example.com", "@example.org")


def test_limits_of_models_are_by_account_and_what_cannot_be_meant_is_refused(read: Any) -> None:
    given = '{"openai": {"requests": 500, "tokens": 200000}, "anthropic": {"requests": 50}}'
    assert read({"AGENTSYS_MODEL_LIMITS": given}).model_limits == {
        "openai": {"requests": 500, "tokens": 200_000},
        "anthropic": {"requests": 50},
    }


@pytest.mark.parametrize(
    "given",
    ["500", "{", "[]", '{"openai-chat": {"requests": 1}}', '{"openai": 5}', '{"openai": {"calls": 1}}']
    + [f'{{"openai": {{"tokens": {value}}}}}' for value in ("0", "-1", "1.5", '"many"', "null", "1e40")],
)
def test_limits_of_models_that_cannot_be_meant_fail_the_start(read: Any, given: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="AGENTSYS_MODEL_LIMITS"):
        read({"AGENTSYS_MODEL_LIMITS": given})
