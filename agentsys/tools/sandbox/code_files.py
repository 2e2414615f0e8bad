"""A run's files as sandboxed Python sees them: three functions, bounded; what was written is kept at a good end."""

from collections.abc import Callable, Mapping
from typing import Any

from agentsys.core.errors import AgentSysError, NotFound
from agentsys.tools.context import FileStore, is_file_name
from agentsys.tools.sandbox.limits import MB

#: The sandbox itself ends code at a thousand.
MAX_CALLS = 900
MAX_READ_BYTES, MAX_WRITTEN_BYTES, MAX_FILE_BYTES, MAX_WRITTEN = 50 * MB, 50 * MB, 10 * MB, 200


class CodeFiles:
    """What the functions raise is an exception of the code, which it may catch.

    A fault that is none of the code's (a lost lease, a database that is away) is kept in ``fault``: it is the step's,
    whatever the code makes of it.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._calls = self._read_bytes = 0
        self.written: dict[str, bytes] = {}
        self.fault: AgentSysError | None = None

    def functions(self) -> dict[str, Callable[..., Any]]:
        return {"read_file": self._read, "write_file": self._write, "list_files": self._list}

    def keep(self) -> None:
        """Write what the code has written."""
        for name, content in self.written.items():
            self._store.write(name, content)

    def _read(self, name: Any, binary: Any = False) -> str | bytes:
        self._count()
        content = self._content(name)
        self._read_bytes += len(content)
        if self._read_bytes > MAX_READ_BYTES:
            raise OSError(f"more than {MAX_READ_BYTES // MB} MB of files were read")
        if binary:
            return content
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not UTF-8 text: read_file(name, binary=True)") from None

    def _content(self, name: Any) -> bytes:
        if not isinstance(name, str):
            raise TypeError("a file's name is a text")
        if name in self.written:
            return self.written[name]
        try:
            return self._store.read(name)
        except NotFound:
            raise FileNotFoundError(f"there is no file named {name!r}") from None
        except AgentSysError as error:
            raise self._not_yours(error) from error

    def _write(self, name: Any, content: Any) -> int:
        self._count()
        if not isinstance(name, str) or not is_file_name(name):
            raise ValueError("a file's name is 1 to 255 visible characters without / and \\")
        if not isinstance(content, str | bytes):
            raise TypeError("a file's content is a text or bytes")
        data = content.encode("utf-8", "replace") if isinstance(content, str) else bytes(content)
        after = self.written | {name: data}
        if len(data) > MAX_FILE_BYTES or len(after) > MAX_WRITTEN or _size(after) > MAX_WRITTEN_BYTES:
            raise OSError(
                f"a file may have {MAX_FILE_BYTES // MB} MB, {MAX_WRITTEN} files {MAX_WRITTEN_BYTES // MB} MB"
            )
        self.written = after
        return len(data)

    def _list(self) -> list[dict[str, Any]]:
        self._count()
        try:
            sizes = {file["name"]: file["size"] for file in self._store.list()}
        except AgentSysError as error:
            raise self._not_yours(error) from error
        sizes |= {name: len(content) for name, content in self.written.items()}
        return [{"name": name, "size": size} for name, size in sorted(sizes.items())]

    def _count(self) -> None:
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise OSError(f"more than {MAX_CALLS} calls for files")

    def _not_yours(self, error: AgentSysError) -> OSError:
        self.fault = error
        return OSError("the files cannot be reached")


def _size(contents: Mapping[str, bytes]) -> int:
    return sum(map(len, contents.values()))
