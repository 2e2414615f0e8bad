"""What an operator may choose about a stack, and what follows from it for its processes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Wanted:
    """What an operator may choose.  Empty addresses mean "embedded"; no port means "any free"."""

    base_dir: Path
    data_dir: Path
    database_url: str = ""
    redis_url: str = ""
    host: str = "127.0.0.1"
    port: int | None = None
    flower_port: int | None = None
    username: str = "admin"
    password: str = ""
    drain_s: float = 30.0
    pool_size: int = 10
    http_allow: tuple[str, ...] = ()
    workers: Mapping[str, int] = field(default_factory=dict)
    concurrency: Mapping[str, int] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    call_itself: bool = False
    stop_with_parent: bool = False

    def connections(self) -> int:
        """Enough for every process with a pool of its own size, and some for people."""
        workers = sum(self.workers.values()) + 4
        children = self.concurrency.get("compute", os.cpu_count() or 2)
        return max(100, (workers + 1) * (self.pool_size + 4) + 4 * children * workers + 20)

    def settings(self, port: int, flower_port: int) -> dict[str, str]:
        given = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        env_file = Path(self.environ.get("AGENTSYS_ENV_FILE", ".env"))
        settings = {
            **{name: url for name, url in given.items() if url},
            "AGENTSYS_ENV_FILE": str(env_file.absolute()),  # children start in the clone, we perhaps not
            "AGENTSYS_DATA_DIR": str(self.data_dir),
            "AGENTSYS_PORT": str(port),
            "AGENTSYS_FLOWER_URL": f"http://127.0.0.1:{flower_port}",
        }
        if self.call_itself:
            settings["AGENTSYS_HTTP_ALLOW"] = ",".join([*self.http_allow, f"127.0.0.1:{port}"])
        return settings
