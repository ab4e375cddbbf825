"""Logs: JSON lines in containers, text on a terminal. Messages are constant; facts travel in `extra`.

Never submitted code or its output above debug.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

from executor.errors import Misconfigured
from executor.settings import TelemetrySettings

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{record.msecs:03.0f}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`12:00:01 warning worker  message  key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        when = self.formatTime(record, "%H:%M:%S")
        head = f"{when} {record.levelname.lower():<7} {record.name:<10} {record.getMessage()}"
        tail = "".join(f"  {key}={value}" for key, value in facts(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return head + tail + trace


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given in `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def set_up(settings: TelemetrySettings) -> None:
    """Send the log of this process to stderr in the format that fits.

    Raises:
        Misconfigured: the format or level is unknown.
    """
    levels = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if settings.log_level not in levels:
        raise Misconfigured(f"EXECUTOR_LOG_LEVEL: {settings.log_level!r} is not one of {', '.join(levels)}")
    if settings.log not in ("", "json", "text"):
        raise Misconfigured(f"EXECUTOR_LOG: {settings.log!r} is neither json nor text")
    text = settings.log == "text" or (not settings.log and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logging.basicConfig(level=levels[settings.log_level], handlers=[handler], force=True)
