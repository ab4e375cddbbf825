"""`python -m worker.kernel SOCKET SCRATCH`: the evaluation container of a Job pod.

It has no credential, no token and no environment worth reading. It gives up the network for good, connects to the
agent's socket in the shared volume, and becomes the zygote on that connection: from there on the agent is its
supervisor. It exits 0 when there is nothing to do.
"""

from __future__ import annotations

import os
import socket
import sys

from worker.kernel import command, seccomp


def main(path: str, scratch: str) -> int:
    """Become the zygote of the agent that listens on `path`; returns only if nobody does.

    Args:
        path: of the agent's unix socket.
        scratch: a folder that can be written, such as /tmp.
    """
    seccomp.no_network()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        control.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        print("nothing to do: no agent waits here", file=sys.stderr)
        return 0
    folder = os.path.join(scratch, "executor")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    control.set_inheritable(True)
    os.chdir("/")
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    os.execve(sys.executable, command(sys.executable, control.fileno(), folder), environment)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python -m worker.kernel SOCKET SCRATCH", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
