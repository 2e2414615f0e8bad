"""The few calls of the REST API that the demo makes, as any client would make them."""

from typing import Any

import httpx

TERMINAL = {"succeeded", "failed", "cancelled"}


class RestFailed(Exception):
    """The API refused a call; the message is its own."""


class Client:
    """Logged in by JWT.  ``api`` is the address up to ``/api/v1``."""

    def __init__(self, api: str, username: str, password: str) -> None:
        # trust_env off: a proxy of the machine has no business between us and 127.0.0.1.
        self._http = httpx.Client(base_url=api, timeout=30.0, trust_env=False)
        tokens = self._call("POST", "auth/token", json={"username": username, "password": password})
        self._http.headers["Authorization"] = f"Bearer {tokens['access']}"

    def submit(self, body: dict[str, Any], *, key: str) -> dict[str, Any]:
        """The run that was made; sending it again under the same ``key`` makes no second one."""
        return self._call("POST", "runs", json=body, headers={"Idempotency-Key": key})

    def run(self, run_id: str) -> dict[str, Any]:
        return self._call("GET", f"runs/{run_id}")

    def steps(self, run_id: str) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self._call("GET", f"runs/{run_id}/steps")["results"]
        return steps

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """The first hundred."""
        events: list[dict[str, Any]] = self._call("GET", f"runs/{run_id}/events")["results"]
        return events

    def put_agent(self, slug: str, body: dict[str, Any]) -> None:
        """Make an agent, or give it a new version."""
        self._call("PUT", f"agents/{slug}", json=body)

    def open_approvals(self, run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"approvals?run={run_id}&state=open")["results"]
        return found

    def approve(self, approval: dict[str, Any]) -> None:
        """Just what was shown."""
        self._call("POST", f"approvals/{approval['id']}/approve", json={"digest": approval["digest"]})

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        response = self._http.request(method, path, **how)
        if response.is_error:
            raise RestFailed(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        body: dict[str, Any] = response.json()
        return body
