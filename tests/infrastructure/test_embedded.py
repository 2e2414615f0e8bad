"""The embedded servers, on real processes: first start, second start, crashes, and what they refuse."""

import os
import shutil
import signal
import socket
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import psycopg
import pytest
import redis

from agentsys.infrastructure import embedded_places
from agentsys.infrastructure.embedded import Postgres, Redis, SetupFailed, scratch
from agentsys.infrastructure.processes import wait_until

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who must not run PostgreSQL")

STARTS_BOTH = """
import sys, time
from pathlib import Path
from agentsys.infrastructure.embedded import Postgres, Redis
servers = [Postgres(Path(sys.argv[1])), Redis(Path(sys.argv[1]))]
print(*(server.start() for server in servers), flush=True)
print(*(server.pid for server in servers), flush=True)
sys.stdin.read()
for server in servers:
    server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def doorbell(folder: Path) -> Iterator[Redis]:
    server = Redis(folder)
    server.start()
    yield server
    server.stop()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question).fetchone()  # type: ignore[call-overload]
        assert row
        return row[0]


def start_both(folder: Path, *, python: str = sys.executable, user: str | None = None) -> Popen[str]:
    return Popen(
        [python, "-c", STARTS_BOTH, str(folder)],
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}"},
        user=user,
        extra_groups=[] if user else None,
    )


def kill(server: Postgres | Redis) -> None:
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.alive(), timeout_s=5)


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# --- PostgreSQL -----------------------------------------------------------------------
def test_postgres_18_answers_with_vectors_and_without_superuser_rights(postgres: Postgres) -> None:
    assert str(ask(postgres.url, "SHOW server_version")).startswith("18")
    assert ask(postgres.url, "SELECT '[1,2,2]'::vector <-> '[1,2,3]'::vector") == 1.0
    assert ask(postgres.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False


def test_a_commit_is_on_the_disk_before_it_is_acknowledged(postgres: Postgres) -> None:
    assert [ask(postgres.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]


@pytest.mark.parametrize("role", ["agentsys", "postgres"])
def test_postgres_refuses_who_does_not_know_the_password(postgres: Postgres, role: str) -> None:
    for word in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://{role}:{word}@127.0.0.1:{postgres.port}/agentsys")


def test_a_second_start_keeps_address_and_data(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    before = postgres.url
    postgres.stop()

    second = Postgres(postgres.data_dir)
    assert second.start() == before
    assert ask(before, "SELECT answer FROM kept") == 42
    second.stop()


def test_postgres_comes_back_after_a_kill_in_the_middle_of_work(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    busy = psycopg.connect(postgres.url)
    pid = busy.info.backend_pid
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1e12)")  # never looks up from its work

    kill(postgres)
    postgres.start()

    assert ask(postgres.url, "SELECT answer FROM kept") == 42
    assert not psutil.pid_exists(pid) or is_zombie(pid)
    busy.close()


def test_data_in_use_is_refused_and_left_alone(postgres: Postgres) -> None:
    pid = postgres.pid
    with pytest.raises(SetupFailed, match="in use"):
        Postgres(postgres.data_dir).start()

    assert (postgres.pid, postgres.alive()) == (pid, True)
    assert ask(postgres.url, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_again(folder: Path) -> None:
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18")
    server = Postgres(folder)
    assert ask(server.start(), "SELECT 1") == 1
    server.stop()


def test_secrets_are_private_and_not_on_a_command_line(postgres: Postgres, doorbell: Redis) -> None:
    for server in (postgres, doorbell):
        kept = server.data_dir / f"{server.name}.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert server.password() in kept.read_text()
        assert server.password() not in " ".join(psutil.Process(server.pid).cmdline())


# --- Redis ----------------------------------------------------------------------------
def test_redis_wants_its_password_and_evicts_nothing(doorbell: Redis) -> None:
    with redis.Redis.from_url(doorbell.url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis.Redis(port=doorbell.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_redis_comes_back_at_the_same_address_after_a_kill(doorbell: Redis) -> None:
    before = doorbell.url
    kill(doorbell)
    assert doorbell.start() == before


# --- Ports, disks, parents ------------------------------------------------------------
def test_a_port_that_was_asked_for_and_is_taken_is_one_clear_line(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupFailed, match=f"^port {port} for redis is taken by another process$"):
            Redis(folder, port=port).start()


def test_a_port_of_last_time_that_is_taken_meanwhile_is_replaced(doorbell: Redis) -> None:
    doorbell.stop()
    again = Redis(doorbell.data_dir)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", doorbell.port))
        taken.listen()
        again.start()
    assert again.port != doorbell.port
    again.stop()


def test_a_restart_never_moves_an_address_that_others_know(doorbell: Redis) -> None:
    doorbell.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", doorbell.port))
        taken.listen()
        with pytest.raises(SetupFailed, match=r"is taken by another process$"):
            doorbell.start()


def test_a_full_disk_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_places, "MIN_FREE_BYTES", 10**18)
    with pytest.raises(SetupFailed, match=r"^the disk that holds .* is full: .* needed$"):
        Postgres(folder).start()
    assert not (folder / "postgres").exists()


def test_nothing_outlives_a_parent_that_is_killed(folder: Path) -> None:
    parent = start_both(folder)
    assert parent.stdout
    parent.stdout.readline()
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert all(psutil.pid_exists(pid) for pid in pids)

    parent.kill()
    parent.communicate()

    assert wait_until(lambda: all(is_zombie(pid) for pid in pids), timeout_s=10)
    after = Postgres(folder)  # and what it left can be started again
    assert ask(after.start(), "SELECT 1") == 1
    after.stop()


def test_two_folders_run_at_once(folder: Path, postgres: Postgres) -> None:
    with scratch() as second:
        other = Postgres(second)
        assert other.start() != postgres.url
        assert ask(other.url, "SELECT 1") == ask(postgres.url, "SELECT 1")
        other.stop()


# --- Users ----------------------------------------------------------------------------
@as_root
def test_root_with_a_home_that_others_cannot_enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, readable = folder / "home", folder / "readable"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(embedded_places, "READABLE_PLACES", (readable,))
    server = Postgres(home / "clone" / ".agentsys")

    url = server.start()
    server.stop()

    assert server.data.is_relative_to(readable)
    again = Postgres(home / "clone" / ".agentsys")
    assert (again.start(), again.data) == (url, server.data)
    assert psutil.Process(again.pid).username() == embedded_places.server_user()
    again.stop()


@as_root
def test_a_home_that_was_deleted_and_made_again_starts_afresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setattr(embedded_places, "READABLE_PLACES", (folder / "readable",))
    old = Postgres(home / ".agentsys")
    old.start()
    old.stop()
    shutil.rmtree(home / ".agentsys")

    new = Postgres(home / ".agentsys")

    assert ask(new.start(), "SELECT 1") == 1
    assert new.data != old.data
    assert not old.data.exists()
    new.stop()


@as_root
def test_binaries_that_others_cannot_reach_are_copied_once_with_their_libraries(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_places, "READABLE_PLACES", (folder / "readable",))
    real = embedded_places.reachable
    installed = Path(sys.prefix)
    monkeypatch.setattr(
        embedded_places,
        "reachable",
        lambda path, user: real(path, user) and not path.is_relative_to(installed),
    )
    server = Postgres(folder / "data")
    assert ask(server.start(), "SELECT 1") == 1
    assert server.home.is_relative_to(folder / "readable")
    server.stop()
    made = server.home.stat().st_ctime_ns

    again = Postgres(folder / "data")
    again.start()
    again.stop()
    assert again.home.stat().st_ctime_ns == made


@as_root
def test_a_readable_place_that_belongs_to_somebody_else_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = folder / "theirs", folder / "ours"
    theirs.mkdir()
    embedded_places.give(theirs, embedded_places.server_user())
    monkeypatch.setattr(embedded_places, "READABLE_PLACES", (theirs, ours))
    assert embedded_places.readable_place() == ours


@as_root
def test_an_ordinary_user_runs_the_servers_as_himself(folder: Path) -> None:
    user = embedded_places.server_user()
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pythons = [sys.executable, *filter(None, [shutil.which(same, path=os.defpath)])]
    python = next((it for it in pythons if embedded_places.reachable(Path(it), user)), None)
    if not python or not embedded_places.reachable(Path(sysconfig.get_path("purelib")), user):
        pytest.skip(f"{user} cannot reach a {same} with these packages")
    embedded_places.give(folder, user)
    parent = start_both(folder, python=python, user=user)

    out, _ = parent.communicate("", timeout=60)

    urls, pids = out.splitlines()
    assert urls.startswith("postgresql://agentsys:")
    assert parent.returncode == 0
    assert all(is_zombie(int(pid)) for pid in pids.split())
