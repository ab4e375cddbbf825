"""A watch over HTTP: events as they come, and an end that says why."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from k8s.cluster import WatchEnded, watch

PATH = "/api/v1/namespaces/here/pods?"


@contextmanager
def api_server(status: int, *events: Any) -> Iterator[Any]:
    """Answers every request with one line per event, and keeps the paths that were asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            for event in events:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def api_of(server: Any) -> Any:
    return client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_port}"))


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


def test_events_come_with_their_objects() -> None:
    events = [{"type": "ADDED", "object": pod("a")}, {"type": "BOOKMARK", "object": {}}]
    events += [{"type": "DELETED", "object": pod("a")}]
    with api_server(200, *events) as server:
        seen = list(watch(api_of(server), PATH))

    assert seen == [("ADDED", pod("a")), ("DELETED", pod("a"))]
    assert server.asked[0].startswith(f"{PATH}&watch=1&timeoutSeconds=")


def test_a_refusal_says_why() -> None:
    with api_server(403, {"message": "pods is forbidden"}) as server, pytest.raises(WatchEnded, match=r"^403: pods is"):
        list(watch(api_of(server), PATH))


def test_an_error_among_the_events_ends_it() -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}
    with api_server(200, gone) as server, pytest.raises(WatchEnded, match="too old"):
        list(watch(api_of(server), PATH))


def test_an_api_server_that_is_away_ends_it() -> None:
    with api_server(200) as server:
        api = api_of(server)
    with pytest.raises(WatchEnded):
        list(watch(api, PATH))
