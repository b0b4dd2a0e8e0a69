"""One thread for all posteriors: in turn, together where they wait together, and none that nobody waits for."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Generic, NamedTuple, TypeVar

from gpvae_core.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")
MOST = 4  # of one batch: beyond it the last one waits longer than it gains
LONG = 1.0  # seconds of the thread's CPU time, twice what a batch of MOST takes: on a busy machine nothing is longer
FEW, WITHIN = 4, 2.0  # requests, and seconds in which as many come of a class, but not of one who looks alone
MOST_WAITING = 300  # requests, each with its thread: a class of sixty never has so many
BUSY = "the server is busy: {} requests wait before this one; wait a moment, then choose the image again"


class LeftError(Exception):
    """Whoever asked is gone, so nothing was computed."""


class Asked(NamedTuple, Generic[Item, Result]):
    """A request; ``lasts`` is set where computing it takes long."""

    key: Hashable
    item: Item
    future: Future[Result]
    wanted: Callable[[], bool]
    lasts: Future[None]

    def soon(self) -> bool:
        """Wait for the result, and say that it is there; not where it takes long."""
        wait([self.future, self.lasts], return_when=FIRST_COMPLETED)
        return self.future.done()


def always() -> bool:
    """Of a request that is wanted whatever happens."""
    return True


class Batcher(Generic[Item, Result]):
    """Calls ``compute(items)`` in a thread of its own, with items of one key that wait together, MOST at a time.

    The oldest request is always among them. A session waits for one posterior at a time, and its next request comes
    behind all that wait then: so sessions are served in turn, whatever their checkpoints. What takes longer than LONG
    lets one turn of the others pass at its next ``pause``, and again after as long.

    Torch uses every core for one call, so two at once would slow each other down; and it starts a new team of threads
    in every thread that calls it, which a session's script, a new thread for each run, would pay for each time.
    """

    def __init__(
        self, compute: Callable[[Sequence[Item]], Sequence[Result]], clock: Callable[[], float] = time.thread_time
    ) -> None:
        self.compute = compute
        self.clock = clock
        self.waiting: SimpleQueue[Asked[Item, Result]] = SimpleQueue()
        self.open = 0  # requests without an answer
        self._came: deque[float] = deque(maxlen=FEW)  # when the last ones did
        self._lock = Lock()
        self._shared: dict[Hashable, tuple[Asked[Item, Result], list[Callable[[], bool]]]] = {}  # by what they are
        self._line: list[Asked[Item, Result]] = []  # what has come, the oldest first; for the thread alone
        # begun and not ended: the last one is computed, one before it pauses
        self._begun: list[list[Asked[Item, Result]]] = []
        self._since = 0.0  # when that one began or went on
        self._thread = Thread(target=self._serve, name="batches", daemon=True)
        self._thread.start()

    def __call__(self, key: Hashable, item: Item, wanted: Callable[[], bool] = always) -> Result:
        """The result for ``item``, after those before it; see ``ask``."""
        return self.ask(key, item, wanted).future.result()

    def ask(
        self, key: Hashable, item: Item, wanted: Callable[[], bool] = always, *, same: Hashable = None
    ) -> Asked[Item, Result]:
        """Ask for ``item``, whose turn is after those before it. ``wanted()`` is asked then, and in pauses.

        Who asks for the ``same`` as another one, while that is unanswered, shares its answer: it is computed once, as
        long as one of them wants it.

        The result raises what computing it alone raises, and LeftError where it was not wanted any more. Raises
        InputError where MOST_WAITING wait already.
        """
        with self._lock:
            if same in self._shared:
                request, wanting = self._shared[same]
                wanting.append(wanted)
                return request
            if self.open >= MOST_WAITING:
                raise InputError(BUSY.format(self.open))
            self.open += 1
            self._came.append(time.monotonic())
            wanting = [wanted]
            request = Asked(key, item, Future(), lambda: self._wanted(same, wanting), Future())
            if same is not None:
                self._shared[same] = request, wanting
        request.future.add_done_callback(lambda answered: self._close(same, request))
        self.waiting.put(request)
        return request

    def pressed(self) -> bool:
        """Whether as many requests come as those of a class."""
        with self._lock:
            return len(self._came) == FEW and time.monotonic() - self._came[0] < WITHIN

    def _wanted(self, same: Hashable, wanting: list[Callable[[], bool]]) -> bool:
        """Whether anybody wants it; where nobody does, nobody can share it from now on."""
        with self._lock:
            if any(one() for one in wanting):
                return True
            self._shared.pop(same, None)
            return False

    def _close(self, same: Hashable, request: Asked[Item, Result]) -> None:
        with self._lock:
            self.open -= 1
            if same in self._shared and self._shared[same][0] is request:
                del self._shared[same]

    def pause(self) -> None:
        """For ``compute`` to call between its steps: others may have their turn here. Elsewhere it does nothing.

        Raises LeftError where nobody wants any more what is being computed. Who has a turn in the pause of another one
        gives none away, so nobody waits for more than one that takes long.
        """
        if current_thread() is not self._thread or self.clock() - self._since < LONG:
            return
        if not any(request.wanted() for request in self._begun[-1]):
            raise LeftError
        for request in self._begun[-1]:
            if not request.lasts.done():
                request.lasts.set_result(None)
        if len(self._begun) == 1:
            self._turn()
        self._since = self.clock()

    def _serve(self) -> None:
        while True:
            self._line.append(self.waiting.get())
            while self._line:
                self._turn()

    def _turn(self) -> None:
        """Answer the oldest request, with the next ones of its key; nothing where none waits."""
        while not self.waiting.empty():
            self._line.append(self.waiting.get())
        self._line = self._still_wanted(self._line)
        if self._line:
            turn, self._line = _split(self._line)
            self._answer(turn)

    @staticmethod
    def _still_wanted(requests: list[Asked[Item, Result]]) -> list[Asked[Item, Result]]:
        """Those that are; the others are told at once, so that their threads end."""
        kept = []
        for request in requests:
            if request.wanted():
                kept.append(request)
            else:
                request.future.set_exception(LeftError())
        return kept

    def _answer(self, requests: list[Asked[Item, Result]]) -> None:
        try:
            results = self._computed(requests)
        except Exception as error:
            if len(requests) == 1 or isinstance(error, LeftError):
                for request in requests:
                    request.future.set_exception(error)
                return
            for request in requests:  # one bad image must not spoil its neighbours
                self._answer([request])
        else:
            for request, result in zip(requests, results, strict=True):
                request.future.set_result(result)

    def _computed(self, requests: list[Asked[Item, Result]]) -> Sequence[Result]:
        self._begun.append(requests)
        self._since = self.clock()
        try:
            return self.compute([request.item for request in requests])
        finally:
            self._begun.pop()


def _split(line: list[Asked[Item, Result]]) -> tuple[list[Asked[Item, Result]], list[Asked[Item, Result]]]:
    """The oldest request with the next ones of its key, MOST in all; and the rest."""
    same = [k for k, request in enumerate(line) if request.key == line[0].key][:MOST]
    return [line[k] for k in same], [request for k, request in enumerate(line) if k not in same]
