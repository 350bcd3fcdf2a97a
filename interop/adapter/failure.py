"""Why a test failed, and how long it may take."""

import time


class Failure(Exception):
    """The test failed; one line says why."""


class Deadline:
    """The time left for the whole test, in seconds."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def left(self):
        return max(0.0, self.end - time.monotonic())

    def is_over(self):
        return self.left() == 0.0

    def require(self, what):
        """The time left; a Failure if there is none."""
        if self.is_over():
            raise Failure(f"{what}: nothing within {self.seconds:g} s")
        return self.left()

    def poll(self, what, ask, pause=0.2):
        """Asks until the answer is not None; a Failure at the deadline."""
        while (answer := self._ask(what, ask)) is None:
            time.sleep(min(pause, self.require(what)))
        return answer

    def _ask(self, what, ask):
        try:
            return ask()
        except Failure:
            # Past the deadline all that was awaited matters, not the step that it ended in.
            self.require(what)
            raise
