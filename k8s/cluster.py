"""The API server as this project uses it; the only module that imports `kubernetes`."""

from __future__ import annotations

from typing import Any

from executor.errors import Misconfigured


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
