"""Kernel -> Interrupt (and Ctrl-C) as a request to stop between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class InterruptRequest:
    """While active, the first interrupt is kept for `check`; the second raises at once.

    An interrupt can arrive in the middle of an update, when half of the weights are new. Waiting
    for the end of the step keeps the model and its checkpoint whole. A step that hangs can still be
    ended, with a second interrupt.
    """

    def __init__(self) -> None:
        self._requested = False
        self.insisted = False  # whether a second interrupt came

    def check(self) -> None:
        """Raise the interrupt that has come, if one has. To be called between two steps."""
        if self._requested:
            raise KeyboardInterrupt

    def __enter__(self) -> InterruptRequest:
        # Python delivers signals to the main thread only, and lets only that thread handle them.
        self._handles_signals = threading.current_thread() is threading.main_thread()
        if self._handles_signals:
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handles_signals:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            self.insisted = True
            raise KeyboardInterrupt
        self._requested = True
