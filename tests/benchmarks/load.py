"""Requests over a few kept connections, with next to no work of our own."""

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

CONNECTIONS = 8


@dataclass(frozen=True)
class Target:
    """One POST, sent again and again."""

    port: int
    path: str
    body: bytes
    headers: dict[str, str]


def rate(target: Target, requests: int) -> float:
    """Requests a second.

    Raises:
        AssertionError: one was refused.
    """
    turns = iter(range(requests))
    lock = threading.Lock()
    wrong: list[str] = []
    clients = [threading.Thread(target=_send, args=(target, turns, lock, wrong)) for _ in range(CONNECTIONS)]
    begun = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took_s = time.perf_counter() - begun
    assert not wrong, wrong[0]
    return requests / took_s


def _send(target: Target, turns: Iterator[int], lock: threading.Lock, wrong: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    while not wrong:
        with lock:
            if next(turns, None) is None:
                break
        connection.request("POST", target.path, target.body, target.headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            wrong.append(f"{answer.status}: {text[:300]!r}")
    connection.close()
