"""How a trial passes time, and how it notices that time passed without it."""

import threading
import time

STILL_SECONDS = 5.0
"""A machine that stood still for longer than this has measured nothing."""


class Stopped(Exception):
    """The trial is not to go on."""


class StoodStill(Exception):
    """The machine did nothing for a while (a suspended guest, a starved one); what was measured says nothing."""


class Pace:
    """Pauses of one trial.

    Args:
        stop: set by whoever wants the trial to end.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._last = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopped: the trial is not to go on.
            StoodStill: much more time than that has passed since the last pause.
        """
        if self._stop.wait(seconds):
            raise Stopped
        now = time.monotonic()
        before, self._last = self._last, now
        if now - before > seconds + STILL_SECONDS:
            raise StoodStill(f"{now - before:.0f} s")
