"""The users of k8s/base/redis-users.sh, as the manifests print them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.support.servers import server_program, version_of

BASE: Final = Path(__file__).parents[2] / "k8s" / "base"
ROLES: Final = ("dispatcher", "worker", "agent", "scaler", "caller", "doctor", "admin")


def knows_setinfo() -> bool:
    """Whether the server has CLIENT SETINFO, which came with 7.2."""
    return "v=7.0." not in version_of(server_program())


def printed_users(**more: str) -> str:
    """The ACL file; the password of each role is `secret-ROLE`."""
    urls = {
        f"{role.upper()}_URL": f"redis://{role}:secret-{role}@executor-redis:6379/0"
        for role in ROLES
        if role != "scaler"
    }
    environ = {"PATH": "/usr/bin:/bin", "SCALER_PASSWORD": "secret-scaler", **urls, **more}
    if not knows_setinfo():
        environ["SETINFO"] = ""
    return subprocess.run(
        ["sh", str(BASE / "redis-users.sh")], env=environ, capture_output=True, text=True, check=True
    ).stdout
