"""The API server as this project uses it; the only module that imports `kubernetes`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.errors import Misconfigured

_SECONDS: Final = 10.0
"""One answer of the API server."""
_WATCH_SECONDS: Final = 300
"""One watch; then it is asked for anew."""
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API server answered.

    Attributes:
        status: of HTTP; 0 when there was no answer.
        body: the object as plain data; a message where the status is not 2xx.
    """

    status: int
    body: Any

    @property
    def good(self) -> bool:
        """Whether the body is the object asked for."""
        return 200 <= self.status < 300


class WatchEnded(Exception):
    """A watch was refused or broke; carries why."""


def in_this_pod() -> tuple[str, Any] | None:
    """Namespace and client for a program that runs in a pod with a token; None anywhere else."""
    try:
        return (_ACCOUNT / "namespace").read_text().strip(), connect()
    except (OSError, Misconfigured):
        return None


def connect() -> Any:
    """A client of the API server: the pod's own service account, else KUBECONFIG or ~/.kube/config.

    Returns:
        A `kubernetes.client.ApiClient`.

    Raises:
        Misconfigured: there is no configuration to be found.
    """
    from kubernetes import client, config  # noqa: PLC0415 half a second that only some commands need

    try:
        if (_ACCOUNT / "token").exists():
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config()  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise Misconfigured(f"no cluster: set KUBECONFIG, or run in a pod with a service account ({error})") from error
    return client.ApiClient()


def ask(api: Any, path: str, body: Any = None, *, patch: bool = False) -> Reply:
    """GET a path, POST a body to it, or merge the body into it; never raises for what the server answers.

    The typed classes of `kubernetes` are passed over: they need a model for each kind, and KEDA's have none.

    Args:
        api: what `connect` returned.
        path: of the API server, with its query.
        body: plain data to post.
        patch: merge it (RFC 7386) into what is there instead.
    """
    from kubernetes import client  # noqa: PLC0415 as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 as above

    headers = _headers(api)
    method, url = "GET" if body is None else "POST", api.configuration.host + path
    if patch:
        method, headers["Content-Type"] = "PATCH", "application/merge-patch+json"
    try:
        response = api.rest_client.request(method, url, headers=headers, body=body, _request_timeout=_SECONDS)
        status, raw = response.status, response.data or response.read()
    except client.ApiException as error:
        status, raw = error.status or 0, error.body or error.reason
    except (HTTPError, OSError) as error:
        status, raw = 0, str(error)
    return Reply(status, _parsed(raw) if 200 <= status < 300 else _message(raw))


def watch(api: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What happens to the objects of a list, beginning with those that are there; ends after some minutes.

    Args:
        api: what `connect` returned.
        path: of the list, with a `?` and its query.

    Yields:
        The kind (`ADDED`, `MODIFIED`, `DELETED`) and the object.

    Raises:
        WatchEnded: refused, broken, or told to start anew.
    """
    from kubernetes import client  # noqa: PLC0415 as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 as above

    url = f"{api.configuration.host}{path}&watch=1&timeoutSeconds={_WATCH_SECONDS}"
    patience = (_SECONDS, _WATCH_SECONDS + _SECONDS)
    try:
        response = api.rest_client.request("GET", url, headers=_headers(api), _request_timeout=patience)
        if response.status != 200:
            raise WatchEnded(f"{response.status}: {_message(response.read())}")
        for line in response.response:
            event = _parsed(line)
            if event.get("type") == "ERROR":
                raise WatchEnded(str(event["object"].get("message", event["object"])))
            if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                yield event["type"], event["object"]
    except client.ApiException as error:
        raise WatchEnded(f"{error.status}: {_message(error.body or error.reason)}") from error
    except (HTTPError, OSError) as error:
        raise WatchEnded(str(error)) from error


def _headers(api: Any) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    return headers | {found["key"]: found["value"] for found in api.configuration.auth_settings().values()}


def _parsed(raw: Any) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return {}


def _message(raw: Any) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    found = _parsed(text)
    return str(found.get("message", text)) if isinstance(found, dict) else text
