"""Which systems there are, and an interpreter for each: a virtual environment of its own from a pinned lock file.

A system is a file `<name>_peer.py` beside this one. With a `requirements-<name>.lock` it runs in `.venv-peers/<name>`,
made on first use and again whenever the lock changes; without one, in the environment of the bench. A lock is made by

    uv pip compile requirements-<name>.in --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header --output-file requirements-<name>.lock
"""

import hashlib
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
BASELINE = "executor"


def known() -> list[str]:
    """Name the systems, the one that ratios refer to first."""
    names = sorted(path.stem.removesuffix("_peer") for path in HERE.glob("*_peer.py"))
    return sorted(names, key=lambda name: name != BASELINE)


def interpreter(name: str, say: Callable[[str], None]) -> Path:
    """Return the interpreter a system runs on, making its environment if need be."""
    lock = HERE / f"requirements-{name}.lock"
    if not lock.exists():
        return Path(sys.executable)
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        say(f"{name}: installing {lock.name} into {folder.relative_to(ROOT)}")
        venv.create(folder, clear=True, with_pip=True)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([python, "-m", "pip", "install", *options, "--requirement", lock], check=True)
        stamp.write_text(digest)
    return python
