"""Waiting for a condition with a deadline, never for a length of time."""

import time


class TimedOut(AssertionError):
    """The condition did not come true in time."""


def wait_for(condition, what: str, deadline_s: float = 30.0, pause_s: float = 0.05):
    """Calls `condition` until it returns something true, and returns that. Its exceptions count as "not yet"; the last one is named."""
    end = time.monotonic() + deadline_s
    last = None
    while True:
        try:
            found = condition()
            if found:
                return found
            last = None
        except Exception as error:  # noqa: BLE001 - whatever it is, the deadline reports it
            last = error
        if time.monotonic() >= end:
            raise TimedOut(f"waited {deadline_s:.0f} s for {what}" + (f"; last: {last!r}" if last else ""))
        time.sleep(pause_s)
