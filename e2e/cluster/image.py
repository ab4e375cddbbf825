"""Writes an image of one program on an empty root as a docker-archive: no daemon, no registry.

usage: image.py ARCHIVE NAME PROGRAM PATH_IN_IMAGE [CONFIG_JSON]
"""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def layer_of(program: Path, path: str) -> bytes:
    """A tar of the one program, the same bytes for the same program."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(path.lstrip("/"))
        info.size, info.mode = program.stat().st_size, 0o755
        with program.open("rb") as content:
            tar.addfile(info, content)
        scratch = tarfile.TarInfo("tmp")
        scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(scratch)
    return buffer.getvalue()


def write_archive(archive: Path, name: str, layer: bytes, config: dict[str, object]) -> None:
    """The layer, its configuration and the manifest that names both."""
    digest = hashlib.sha256(layer).hexdigest()
    description = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    described = f"{hashlib.sha256(description).hexdigest()}.json"
    manifest = [{"Config": described, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    entries = {
        f"{digest}/layer.tar": layer,
        described: description,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(archive, "w") as tar:
        for path, data in entries.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    target, image, program, path, *config = sys.argv[1:]
    write_archive(Path(target), image, layer_of(Path(program), path), json.loads(config[0]) if config else {})
