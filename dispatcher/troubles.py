"""What keeps a part of the work from being done while the rest goes on: said when it begins and when it is over.

A key of many that holds something else ends no program and no pass: what needs it waits, and the log names it.
"""

from __future__ import annotations

import logging


class Troubles:
    """The open troubles of one program."""

    def __init__(self, program: str) -> None:
        self._log = logging.getLogger(program)
        self._open: dict[str, str] = {}

    def note(self, part: str, problem: str) -> None:
        """A part of the work could not be done."""
        if self._open.get(part) != problem:
            self._open[part] = problem
            self._log.error(
                "a part of the work cannot be done; the rest goes on", extra={"part": part, "error": problem}
            )

    def over(self, part: str) -> None:
        """It could be done."""
        if self._open.pop(part, ""):
            self._log.info("a part of the work can be done again", extra={"part": part})
