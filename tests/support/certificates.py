"""A private authority and what it signs, made by openssl into a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority of a test's own.

    Attributes:
        certificate: file of its own certificate.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name = folder, name
        self.certificate = folder / f"{name}.crt"
        folder.mkdir(exist_ok=True, parents=True)
        self._openssl(
            "req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.certificate
        )

    @property
    def _key(self) -> Path:
        return self._folder / f"{self._name}.key"

    def sign(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """Certificate and key for somebody; negative days: it has expired."""
        certificate, key, request, extension = (self._folder / f"{name}.{end}" for end in ("crt", "key", "csr", "ext"))
        extension.write_text(f"subjectAltName={names}\n")
        self._openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        authority = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial")
        self._openssl(
            "x509", "-req", "-in", request, *authority, "-days", str(days), "-extfile", extension, "-out", certificate
        )
        return certificate, key

    def server_lines(self) -> list[str]:
        """Configuration of a server that this authority has signed, and that asks clients for a certificate of it."""
        certificate, key = self.sign("server")
        files = [f"tls-cert-file {certificate}", f"tls-key-file {key}", f"tls-ca-cert-file {self.certificate}"]
        return [*files, "tls-auth-clients yes", "tls-replication yes"]

    def query(self, name: str = "client") -> str:
        """Options of an address for a client that it has signed."""
        certificate, key = self.sign(name)
        return f"ssl_ca_certs={self.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"

    def _openssl(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
