"""A run's files for a call that was given secrets: what it writes is masked as its output is."""

from dataclasses import dataclass

from agentsys.core.hidden import Hidden
from agentsys.tools.context import FileStore, Listing


@dataclass(frozen=True, slots=True)
class MaskedFiles:
    """``store`` without what is hidden, in names and contents."""

    store: FileStore
    hidden: Hidden

    def read(self, name: str) -> bytes:
        return self.store.read(name)

    def write(self, name: str, content: bytes | str) -> None:
        masked = self.hidden.text(content) if isinstance(content, str) else self.hidden.raw(bytes(content))
        self.store.write(self.hidden.text(name), masked)

    def list(self) -> Listing:
        return self.store.list()
