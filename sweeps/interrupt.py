"""Ctrl-C, and a polite kill: the first asks the packs to save their state and end, the second ends at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sweeps.folder import RunFolder

__all__ = ["Interrupt", "interruptible"]

_MESSAGE = b"\nlratlas: saving the state, then stopping; once more stops at once (no finished work is lost)\n"


class Interrupt:
    """Whether the user has asked for an end.

    Args:
        folder: the results folder; its packs look for the stop file.
        announce: say so on standard error; a live display says it in its own place.
    """

    def __init__(self, folder: RunFolder, announce: bool = True) -> None:
        self._folder = folder
        self._announce = announce
        self.asked = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal.

        Args:
            number: the signal.
            frame: where it struck.

        Raises:
            KeyboardInterrupt: it is the second one.
        """
        del number, frame
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if self._announce:
            # A system call, because a signal may strike in the middle of anything, printing included.
            os.write(2, _MESSAGE)
        self._folder.stop_file.touch()


@contextmanager
def interruptible(folder: RunFolder, *, announce: bool = True) -> Iterator[Interrupt]:
    """Turn SIGINT and SIGTERM into a request to stop, for the length of a block in the main thread.

    Args:
        folder: the results folder.
        announce: say on standard error that the request was heard.

    Yields:
        Whether the user has asked for an end.
    """
    folder.stop_file.unlink(missing_ok=True)
    interrupt = Interrupt(folder, announce)
    before = {number: signal.signal(number, interrupt.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        folder.stop_file.unlink(missing_ok=True)
