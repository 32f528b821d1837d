"""Signals that stop a training, or ask for its state: what a terminal, a cluster and a machine that is taken away send.

SIGTERM and SIGINT (Ctrl-C): the training finishes its update, writes its state and ends. SIGUSR1: it writes its state
and goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

_STOPPING = ("SIGINT", "SIGTERM")
_ASKING = ("SIGUSR1",)  # Windows has none


class Interrupted(Exception):
    """A signal has stopped the training.

    Attributes:
        name: the name of the signal.
        code: the exit code of a command that this signal stops.
    """

    def __init__(self, number: int, message: str = ""):
        self.name, self.code = signal.Signals(number).name, 128 + number
        super().__init__(message or f"stopped by {self.name}")
        self.number = number


class Signals:
    """Takes notes of signals inside of its context, instead of letting them end the process.

    Only the main thread can do so. A signal that the process ignores stays ignored.

    Args:
        stops: whether to note the signals that stop a training too. Otherwise they end the process as usual.

    Attributes:
        stopped_by: the number of the signal that stops the training, or 0.
        asked: whether the state is asked for.
        received, requested: the same of the signals that have arrived at this process. The processes of a training
            agree on the others; see `agree`.
    """

    def __init__(self, stops: bool = True) -> None:
        self.stops, self.stopped_by, self.asked = stops, 0, False
        self.received, self.requested, self.alone = 0, False, True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for names, handler in ((_STOPPING if self.stops else (), self._stop), (_ASKING, self._ask)):
                for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
                    self._note(number, handler)
        return self

    def _note(self, number: int, handler: Callable[[int, Any], None]) -> None:
        before = signal.getsignal(number)
        if before not in (signal.SIG_IGN, None):
            self._before[number] = before
            signal.signal(number, handler)

    def __exit__(self, *error: Any) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _stop(self, number: int, frame: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.received:
            # Streams of Python may be in use at this moment. A terminal that is gone is no reason to fail.
            with contextlib.suppress(OSError):
                again = "; press Ctrl-C again to end at once" if number == signal.SIGINT else ""
                os.write(2, f"\ntfseq2seq: stopping after this step, and writing the state{again}\n".encode())
            self.received = number
            if self.alone:
                self.stopped_by = number

    def _ask(self, number: int, frame: Any) -> None:
        self.requested = True
        if self.alone:
            self.asked = True

    def agree(self, stopped_by: int, asked: bool) -> None:
        """Sets what all processes of a training have agreed on. A signal can arrive while they do so."""
        self.stopped_by = stopped_by
        if asked:
            self.asked, self.requested = True, False

    def check(self) -> None:
        """Raises `Interrupted` if a signal stops the training."""
        if self.stopped_by:
            raise Interrupted(self.stopped_by)
