"""The two files that tell others about us, both 0600 and written whole.

``services.json``: what settings need to find the embedded services; stays after a stop, so that
secrets, passwords and ports are the same the next time.  ``endpoints.json``: addresses, credentials
and process ids of a stack that is ready; it is there only while the stack runs.
"""

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from agentsys.infrastructure.embedded_base import write_private
from agentsys.infrastructure.processes import SetupFailed

MAX_LOG_BYTES = 10_000_000


class Files:
    """The files of one DATA_DIR.  Raises SetupFailed when it cannot be written."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.services_file = self.data_dir / "services.json"
        self.endpoints_file = self.data_dir / "endpoints.json"

    def services(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.services_file.read_text())
            return found
        except (FileNotFoundError, NotADirectoryError):
            return {}  # a folder that cannot be made is told by whoever writes
        except (OSError, ValueError) as error:
            raise SetupFailed(f"{self.services_file} cannot be read: {error}; delete it") from error

    def keep(self, **values: Any) -> None:
        """Add to services.json; a value of None takes the name out."""
        merged = {k: v for k, v in {**self.services(), **values}.items() if v is not None}
        self._write(self.services_file, merged)

    def secret(self, name: str, *, hex_bytes: int = 32) -> str:
        """A random secret under ``name``, made once."""
        if name not in self.services():
            self.keep(**{name: secrets.token_hex(hex_bytes)})
        return str(self.services()[name])

    def tell(self, endpoints: dict[str, Any]) -> None:
        self._write(self.endpoints_file, endpoints)

    def untell(self) -> None:
        self.endpoints_file.unlink(missing_ok=True)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            self.data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise SetupFailed(f"AGENTSYS_DATA_DIR: {self.data_dir} cannot be made: {error.strerror}") from error
        try:
            write_private(path, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise SetupFailed(f"{path} cannot be written: {error.strerror}") from error


def keep_secret_key(data_dir: Path) -> None:
    """Before settings are loaded for a first start: they refuse to start without a SECRET_KEY."""
    Files(data_dir).secret("secret_key")
    Files(data_dir).secret("vault_key")


def hide_logs(folder: Path) -> None:
    """Make the folder of logs, and what earlier versions left open in it, ours alone to read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for log in folder.glob("*.log*"):
        log.chmod(0o600)


def cut_logs(folder: Path) -> None:
    """Move a log that has grown too long to ``.1`` and go on from empty (writers append)."""
    for log in folder.glob("*.log"):
        if log.stat().st_size > MAX_LOG_BYTES:
            shutil.copy(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
