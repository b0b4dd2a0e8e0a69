"""One thread for all posteriors: in turn, together where they wait together, and none that nobody waits for."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Generic, NamedTuple, TypeVar

from gpvae_core.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")
MOST = 4  # of one batch: beyond it the last one waits longer than it gains
MOST_WAITING = 300  # requests, each with its thread: a class of sixty never has so many
BUSY = "the server is busy: {} requests wait before this one; wait a moment, then choose the image again"


class LeftError(Exception):
    """Whoever asked is gone, so nothing was computed."""


class _Request(NamedTuple, Generic[Item, Result]):
    key: Hashable
    item: Item
    future: Future[Result]
    wanted: Callable[[], bool]


def always() -> bool:
    """Of a request that is wanted whatever happens."""
    return True


class Batcher(Generic[Item, Result]):
    """Calls ``compute(items)`` in a thread of its own, with items of one key that wait together, MOST at a time.

    The oldest request is always among them. A session waits for one posterior at a time, and its next request comes
    behind all that wait then: so sessions are served in turn, whatever their checkpoints.

    Torch uses every core for one call, so two at once would slow each other down; and it starts a new team of threads
    in every thread that calls it, which a session's script, a new thread for each run, would pay for each time.
    """

    def __init__(self, compute: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self.compute = compute
        self.waiting: SimpleQueue[_Request[Item, Result]] = SimpleQueue()
        self.open = 0  # requests without an answer
        self._lock = Lock()
        Thread(target=self._serve, name="batches", daemon=True).start()

    def __call__(self, key: Hashable, item: Item, wanted: Callable[[], bool] = always) -> Result:
        """The result for ``item``, after those before it. ``wanted()`` is asked when its turn comes.

        Raises what computing it alone raises, LeftError where it was not wanted any more, and InputError where
        MOST_WAITING wait already.
        """
        with self._lock:
            if self.open >= MOST_WAITING:
                raise InputError(BUSY.format(self.open))
            self.open += 1
        try:
            request: _Request[Item, Result] = _Request(key, item, Future(), wanted)
            self.waiting.put(request)
            return request.future.result()
        finally:
            with self._lock:
                self.open -= 1

    def _serve(self) -> None:
        line: list[_Request[Item, Result]] = []  # the oldest first
        while True:
            while not line or not self.waiting.empty():
                line.append(self.waiting.get())
            line = self._still_wanted(line)
            if line:
                turn, line = _split(line)
                self._answer(turn)

    @staticmethod
    def _still_wanted(requests: list[_Request[Item, Result]]) -> list[_Request[Item, Result]]:
        """Those that are; the others are told at once, so that their threads end."""
        kept = []
        for request in requests:
            if request.wanted():
                kept.append(request)
            else:
                request.future.set_exception(LeftError())
        return kept

    def _answer(self, requests: list[_Request[Item, Result]]) -> None:
        try:
            results = self.compute([request.item for request in requests])
            for request, result in zip(requests, results, strict=True):
                request.future.set_result(result)
        except Exception as error:
            if len(requests) == 1:
                requests[0].future.set_exception(error)
                return
            for request in requests:  # one bad image must not spoil its neighbours
                self._answer([request])


def _split(line: list[_Request[Item, Result]]) -> tuple[list[_Request[Item, Result]], list[_Request[Item, Result]]]:
    """The oldest request with the next ones of its key, MOST in all; and the rest."""
    same = [k for k, request in enumerate(line) if request.key == line[0].key][:MOST]
    return [line[k] for k in same], [request for k, request in enumerate(line) if k not in same]
