"""What runs in the processes that fork and watch evaluated code: standard library only.

Started by path with `-I -S`, off sys.path (see `command`); the modules are taken out of sys.modules before the
first line of evaluated code runs, so that `import worker` finds a module of the evaluation's own, or none.

    supervisor (holds credentials)
      └─ zygote    exec'd once, imports the template, forks keepers
           ├─ keeper    one evaluation at a time: forks, watches, limits, kills, reports
           │    └─ child     a fresh fork for each evaluation, waiting ready-made
           └─ keeper ...
"""

from __future__ import annotations

from pathlib import Path

_BOOTSTRAP = """
import sys
folder, control, scratch = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for name, path in (("worker", []), ("worker.kernel", [folder])):
    module = sys.modules[name] = type(sys)(name)
    module.__path__ = path
from worker.kernel.zygote import main
main(control, scratch)
"""


def command(python: str, control: int, scratch: str) -> list[str]:
    """The command line of a zygote.

    Args:
        python: path of the interpreter that will run evaluations.
        control: inherited descriptor of its control socket.
        scratch: folder that is its own.
    """
    folder = str(Path(__file__).parent)
    return [python, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, folder, str(control), scratch]
