"""Signals that ask a command to end: it comes to a place where all that it says is true, then ends by one sentence."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """The program was asked to end by ``signal``; a shell knows that by ``exit_code``."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number


class Asked:
    """Whether one of SIGNALS came: that raises ``Stopped``, at once or, ``patiently``, where ``check`` is called."""

    def __init__(self) -> None:
        self._patient = False
        self._number: int | None = None

    def note(self, number: int) -> None:
        """Signal ``number`` came. Raises Stopped at once unless ``patiently``."""
        self._number = number
        if not self._patient:
            self.check()

    def check(self) -> None:
        """Raise Stopped if a signal came."""
        if self._number is not None:
            raise Stopped(self._number)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Raise nothing but in ``check``, and at the end."""
        self._patient = True
        try:
            yield
        except RuntimeError:  # of several processes another one has ended already
            self.check()
            raise
        finally:
            self._patient = False
        self.check()


@contextmanager
def listening() -> Iterator[Asked]:
    """Hear the first of each of SIGNALS; a second one, and all of them afterwards, do what they did before.

    What is ignored stays so, as under nohup. Outside the main thread nothing is heard.
    """
    asked, before = Asked(), _before()

    def hear(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        asked.note(number)

    for number in before:
        signal.signal(number, hear)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _before() -> dict[int, Any]:
    """The handlers that may be replaced: None is one that Python did not install and could not give back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
