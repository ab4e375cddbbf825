"""The API server as this project uses it; the only module that imports `kubernetes`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import Misconfigured

_SECONDS: Final = 10.0
"""One answer of the API server."""


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


def connect() -> Any:
    """A client of the API server: the pod's own service account, else KUBECONFIG or ~/.kube/config.

    Returns:
        A `kubernetes.client.ApiClient`.

    Raises:
        Misconfigured: there is no configuration to be found.
    """
    from kubernetes import client, config  # noqa: PLC0415 half a second that only some commands need

    try:
        config.load_config()  # type: ignore[no-untyped-call]
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

    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    headers |= {found["key"]: found["value"] for found in api.configuration.auth_settings().values()}
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


def _parsed(raw: Any) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return {}


def _message(raw: Any) -> str:
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    found = _parsed(text)
    return str(found.get("message", text)) if isinstance(found, dict) else text
