"""A mail server that takes what it is told to take; each connection on a thread of its own."""

import socket
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Smtp:
    """``answers`` by the word of a command (``MAIL``, ``.`` for a mail's end): a line, or None: hang up."""

    tls: ssl.SSLContext | None = None  # from the first byte
    starttls: ssl.SSLContext | None = None
    answers: dict[str, str | None] = field(default_factory=dict)
    silent_at: str = ""
    mails: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> "Smtp":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            thread = threading.Thread(target=self._session, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _session(self, connection: Any) -> None:
        try:
            with connection, closing(self._first(connection)) as first:
                self._talk(first)
        except (OSError, ssl.SSLError):
            pass

    def _first(self, connection: Any) -> Any:
        return self.tls.wrap_socket(connection, server_side=True) if self.tls else connection

    def _talk(self, connection: Any) -> None:
        connection.sendall(b"220 here\r\n")
        self._commands(connection)

    def _commands(self, connection: Any) -> None:
        lines = connection.makefile("rb")
        while line := lines.readline():
            words = line.decode("latin-1").strip()
            self.commands.append(words)
            word = words.split(" ")[0].split(":")[0].upper()
            if word == self.silent_at:
                lines.readline()
                return
            if word in self.answers and not self._said(connection, self.answers[word]):
                return
            if word in self.answers:
                continue
            if word == "STARTTLS" and self.starttls:
                connection.sendall(b"220 go\r\n")
                with self.starttls.wrap_socket(connection, server_side=True) as secure:
                    self._commands(secure)
                return
            if word == "EHLO":
                offer = "250-STARTTLS\r\n" if self.starttls and not isinstance(connection, ssl.SSLSocket) else ""
                connection.sendall(f"250-here\r\n{offer}250 AUTH PLAIN\r\n".encode())
            elif word == "DATA":
                connection.sendall(b"354 go\r\n")
                self.mails.append(self._mail(lines))
                if self.silent_at == "." and not lines.readline():
                    return
                if not self._said(connection, self.answers.get(".", "250 taken")):
                    return
            else:
                connection.sendall(b"235 in\r\n" if word == "AUTH" else b"250 ok\r\n")

    @staticmethod
    def _said(connection: Any, answer: str | None) -> bool:
        if answer is not None:
            connection.sendall(f"{answer}\r\n".encode())
        return answer is not None

    @staticmethod
    def _mail(lines: Any) -> bytes:
        mail = b""
        while (line := lines.readline()) not in (b".\r\n", b""):
            mail += line.removeprefix(b".")  # doubled on the way
        return mail
