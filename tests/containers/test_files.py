"""What operators deploy from: its syntax, its names, and that it points at things that exist.

No container engine is needed; running the containers is another matter.
"""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands
from flower.options import options as flower_options

from agentsys import environment
from agentsys.core import procs
from agentsys.environment import BARE, PREFIX, Environment
from agentsys.infrastructure.models import Worker
from agentsys.observability.collectors import EngineCollector
from workers.lanes import LANES

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: it for name, it in SERVICES.items() if it["image"] == "agentsys"}
SETTINGS = {(name.upper() if name.upper() in BARE else PREFIX + name.upper()) for name in Environment.model_fields}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


# --- .env.example ------------------------------------------------------------------------
def example() -> str:
    return re.sub(r"^# ([A-Z][A-Z_]*=)", r"\1", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)


def test_the_example_lists_every_setting_once_and_no_other():
    listed = re.findall(r"^([A-Z][A-Z_]*)=", example(), re.MULTILINE)

    assert sorted(listed) == sorted(SETTINGS)


def test_the_example_with_every_line_uncommented_is_the_default(tmp_path):
    (tmp_path / ".env").write_text(example())

    assert environment.read({"AGENTSYS_ENV_FILE": str(tmp_path / ".env")}) == Environment()


def test_the_example_as_it_is_changes_nothing():
    assert not [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]


# --- compose.yaml ------------------------------------------------------------------------
@pytest.mark.parametrize("name", OURS)
def test_a_service_is_given_only_settings_that_exist(name):
    for variable in OURS[name]["environment"]:
        assert variable.removesuffix("_FILE") in SETTINGS, variable


@pytest.mark.parametrize("name", OURS)
def test_a_services_settings_are_accepted_at_the_start(name, tmp_path):
    environ = {"AGENTSYS_ENV_FILE": os.devnull}
    for variable, value in OURS[name]["environment"].items():
        environ[variable] = re.sub(r"\$\{[A-Z_]+:-(.*)\}", r"\1", str(value))
        if variable.endswith("_FILE"):
            secret = tmp_path / variable
            secret.write_text("ab" * 32 + "\n" if "VAULT" in variable else "a secret\n")
            assert value.removeprefix("/run/secrets/") in OURS[name]["secrets"]
            environ[variable] = str(secret)

    found = environment.read(environ)

    assert (found.secret_key, found.host) == ("a secret", "0.0.0.0")
    assert "web" in found.allowed_hosts


@pytest.mark.parametrize("name", SERVICES)
def test_every_secret_comes_by_file_and_is_declared(name):
    service = SERVICES[name]

    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    for variable, value in service.get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL|REDIS_URL", variable):
            assert variable.endswith("_FILE"), variable
            assert value.startswith("/run/secrets/")
    used = set(re.findall(r"/run/secrets/(\w+)", json.dumps(service)))
    assert used <= set(service.get("secrets", ()))


def test_every_secret_is_made_by_the_script_and_used(tmp_path, monkeypatch):
    script = runpy.run_path(str(ROOT / "deploy/make_secrets.py"), run_name="script")
    script["main"].__globals__["FOLDER"] = tmp_path / "secrets"
    script["main"]()
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    assert set(made) == set(COMPOSE["secrets"])
    assert {name for service in SERVICES.values() for name in service.get("secrets", ())} == set(made)
    assert all(len(value) >= 20 for value in made.values())
    assert made["postgres_password"] in made["database_url"]
    script["main"]()
    assert {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()} == made
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith(".agentsys/")  # which git and the image leave out


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_hardened_and_bounded(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert not service.get("privileged")
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    if name != "postgres":  # whose start-up changes owners
        assert service["cap_drop"] == ["ALL"]
        assert not service["user"].startswith("0")


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "prepare"])
def test_a_service_says_when_it_works(name):
    health = SERVICES[name].get("healthcheck")

    if name == "web":
        assert health is None
        assert "HEALTHCHECK" in DOCKERFILE
    else:
        assert health["test"]


@pytest.mark.parametrize("name", [name for name in OURS if name != "prepare"])
def test_what_needs_the_schema_waits_for_it_and_for_healthy_servers(name):
    assert {on: how["condition"] for on, how in OURS[name]["depends_on"].items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
        "prepare": "service_completed_successfully",
    }


def test_there_is_a_worker_for_every_lane_and_its_command_is_understood():
    lanes = {}
    for name, service in OURS.items():
        if name.startswith("worker-"):
            python, flag, module, lane, *options = service["command"]
            assert (python, flag, module) == ("python", "-m", "workers")
            lanes[lane] = name
            help_text = subprocess.run(
                [sys.executable, "-m", "workers", "--help"], cwd=ROOT, capture_output=True, text=True
            )
            assert all(option in help_text.stdout for option in options if option.startswith("--"))
    assert lanes == {lane: f"worker-{lane}" for lane in LANES}


def test_prepare_is_a_command_there_is():
    python, script, command = SERVICES["prepare"]["command"]

    assert (python, command in get_commands()) == ("python", True)
    assert (ROOT / script).is_file()
    assert SERVICES["prepare"]["restart"] == "no"


def test_a_worker_has_time_to_drain_before_it_is_killed():
    for lane in LANES:
        grace_s = int(SERVICES[f"worker-{lane}"]["stop_grace_period"].removesuffix("s"))
        assert grace_s >= Environment().drain_s + 5


def test_redis_refuses_rather_than_forgets_and_keeps_nothing():
    shell, flag, command = SERVICES["redis"]["command"]
    words = shlex.split(command.replace("$$", "$"))

    assert (shell, flag) == ("sh", "-c")
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    assert words[words.index("--save") + 1] == ""


def test_postgres_has_connections_for_every_process():
    words = SERVICES["postgres"]["command"]
    most = int(words[-1].removeprefix("max_connections="))

    assert most >= len(OURS) * (Environment().db_pool_size + 4)
    assert SERVICES["postgres"]["image"].endswith("pg18")


def test_only_what_must_reach_out_can():
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "redis", "prepare", "worker-compute"):
        assert SERVICES[name]["networks"] == ["inside"], name


def test_flowers_options_are_known_to_it_and_it_only_watches(tmp_path):
    text = (ROOT / "deploy/flowerconfig.py").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "flower_auth").write_text("admin:secret\n")
    (tmp_path / "flowerconfig.py").write_text(text)
    given = runpy.run_path(str(tmp_path / "flowerconfig.py"))
    chosen = {name: value for name, value in given.items() if not name.startswith("_") and not callable(value)}

    known = {name.replace("-", "_") for name in flower_options._options}
    assert set(chosen) <= known
    assert (chosen["read_only"], chosen["basic_auth"]) == (True, ["admin:secret"])
    assert SERVICES["flower"]["command"][-1] == "--conf=/app/deploy/flowerconfig.py"


# --- Dockerfile --------------------------------------------------------------------------
def test_what_the_image_copies_exists_and_the_context_has_it():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, source


def test_the_image_runs_as_nobody_in_particular_from_the_lock_without_what_built_it():
    last = DOCKERFILE.rpartition("\nFROM ")[2]

    assert re.search(r"^USER (?!0)\d+:\d+$", last, re.MULTILINE)
    assert not re.search(r"pip|uv|gcc", last)
    assert re.findall(r"apt-get install.*recommends (.+?) &&", last) == ["bubblewrap"]
    assert DOCKERFILE.count("--require-hashes") == 2
    assert "ARG PYTHON=3.11-slim" in DOCKERFILE
    assert not re.search(r"(?i)(password|token|secret)\s*=\s*(?!only-to-collect)\S", DOCKERFILE)


def test_the_images_own_command_is_that_of_the_stack_on_one_machine():
    command = json.loads(re.sub(r"\\\n\s*", "", re.search(r"^CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)[1]))
    known = subprocess.run([sys.executable, *command[1:3], "--help"], capture_output=True, text=True, check=True).stdout

    assert command[:3] == ["python", "-m", "granian"]
    assert command[-1] == "agentsys.asgi:application"
    assert all(option in known for option in command if option.startswith("--"))
    assert f"AGENTSYS_DATA_DIR={Path(command[command.index('--static-path-mount') + 1]).parent}" in DOCKERFILE


def test_what_the_image_sets_are_settings():
    for name in re.findall(r"AGENTSYS_[A-Z_]+", DOCKERFILE):
        assert name in SETTINGS, name


def health(*arguments, **environ):
    command = [sys.executable, ROOT / "deploy/healthcheck.py", *arguments]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=30)


def test_the_health_check_fails_where_nothing_answers():
    for what in ("web", "flower"):
        assert health(what, AGENTSYS_PORT="9", AGENTSYS_FLOWER_PORT="9").returncode == 1
    assert health("worker", DATABASE_URL="postgresql://127.0.0.1:9/none").returncode == 1
    assert health("nonsense").returncode == 1


def test_the_health_check_finds_a_web_process_that_answers(live_server):
    port = live_server.url.rpartition(":")[2]

    assert health("web", AGENTSYS_PORT=port).returncode == 0


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_healthy_while_postgresql_hears_of_it(tmp_path, settings):
    Worker.objects.create(name="w", host=procs.of(os.getpid()).host, lane="compute", pid=1)
    given = settings.DATABASES["default"]
    secret = tmp_path / "database_url"
    secret.write_text(
        "postgresql://{USER}:{PASSWORD}@/{NAME}?host={HOST}&port={PORT}\n".format(**given).replace(":@", "@")
    )
    environ = {"DATABASE_URL": "", "DATABASE_URL_FILE": str(secret)}

    assert health("worker", **environ).returncode == 0
    Worker.objects.all().delete()
    assert health("worker", **environ).returncode == 1


# --- Prometheus and Grafana --------------------------------------------------------------
@pytest.fixture
def metrics(db) -> set[str]:
    found = set()
    for family in EngineCollector().collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + ending for ending in endings}
    return found


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/agentsys.json"])
def test_what_is_watched_is_measured(metrics, file):
    named = set(re.findall(r"\bagentsys_[a-z_]+", (ROOT / "deploy" / file).read_text()))

    assert len(named) >= 5
    assert named <= metrics


def test_prometheus_reads_the_web_process_with_its_token():
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]

    assert (job["metrics_path"], job["static_configs"]) == ("/metrics", [{"targets": ["web:8000"]}])
    assert job["authorization"]["credentials_file"] == SERVICES["web"]["environment"]["AGENTSYS_METRICS_TOKEN_FILE"]
    assert [(ROOT / "deploy/prometheus" / file).is_file() for file in config["rule_files"]] == [True]


def test_the_board_has_its_panels_apart():
    panels = json.loads((ROOT / "deploy/grafana/agentsys.json").read_text())["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(taken)) == len(taken)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
