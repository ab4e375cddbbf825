"""What goes wrong with TLS, in words that say what to change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of an address that name files."""

_ADVICE: Final = (
    ("mismatch", "its certificate is for another name: use the name in REDIS_URL that it is for"),
    ("not valid for", "its certificate is for another name: use the name in REDIS_URL that it is for"),
    ("has expired", "its certificate has expired: renew it"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: name the CA's file with ssl_ca_certs in REDIS_URL"),
    ("ALERT_UNKNOWN_CA", "it does not trust the client's certificate: use one of a CA that it knows"),
    ("CERTIFICATE_REQUIRED", "it wants a client's certificate: ssl_certfile and ssl_keyfile in REDIS_URL name one"),
    ("HANDSHAKE_FAILURE", "it wants a client's certificate: ssl_certfile and ssl_keyfile in REDIS_URL name one"),
    ("WRONG_VERSION_NUMBER", "it speaks no TLS there: use redis:// or the port of TLS"),
    ("RECORD_LAYER_FAILURE", "it speaks no TLS there: use redis:// or the port of TLS"),
)


def advice(text: str) -> str:
    """What an error of TLS means and what to do; empty for any other error."""
    return next((words for mark, words in _ADVICE if mark in text), "")


def hung_up(text: str, with_tls: bool) -> str:
    """What may be wrong where a server ends a new connection without a word; empty where it did not."""
    if "reset by peer" not in text and "closed by server" not in text:
        return ""
    if with_tls:
        return "perhaps it wants a client's certificate, or one of another CA: ssl_certfile and ssl_keyfile name one"
    return "where it speaks TLS, that is a rediss:// address"


def unreadable(options: Mapping[str, object]) -> str:
    """The first file of an address that cannot be read, and why; empty when all can."""
    for name in FILES:
        if name in options:
            try:
                Path(str(options[name])).open("rb").close()
            except OSError as error:
                return f"{name}={options[name]}: {error.strerror}"
    return ""


def stamp(context: Any) -> str:
    """What makes a connection's certificates what they are: its options, and when the files were written.

    Raises:
        OSError: a file is not there.
    """
    files = [path for path in (context.ca_certs, context.certfile, context.keyfile) if path]
    options = [getattr(context, name) for name in context.__slots__ if name != "context"]
    return repr((options, [Path(path).stat().st_mtime_ns for path in files]))
