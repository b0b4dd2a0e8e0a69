"""A computation in a thread of its own, whose progress a page shows while it waits."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")
Report = Callable[[float], None]  # takes the share that is done, 0 to 1


class Job(Generic[Result]):
    """``work(report)`` under way, ``words()`` saying what it does; any number of sessions may wait for it."""

    def __init__(self, words: Callable[[], str], work: Callable[[Report], Result]) -> None:
        self.words = words
        self.share = 0.0
        self._future: Future[Result] = Future()
        Thread(target=self._run, args=(work,), name="job", daemon=True).start()

    def _run(self, work: Callable[[Report], Result]) -> None:
        try:
            self._future.set_result(work(self._report))
        except BaseException as error:
            self._future.set_exception(error)

    def _report(self, share: float) -> None:
        self.share = min(max(share, 0.0), 1.0)

    def done(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, waiting for at most ``seconds``."""
        return bool(wait([self._future], timeout=seconds).done)

    def failed(self) -> bool:
        """Whether it has ended without a result."""
        return self._future.done() and self._future.exception() is not None

    def result(self) -> Result:
        """What it gave, once it has ended. Raises what it raised."""
        return self._future.result()
