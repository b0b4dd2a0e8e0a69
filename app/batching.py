"""One thread for all posteriors: requests that wait together are computed together."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")
MOST = 4  # of one batch: beyond it the last one waits longer than it gains


class Batcher(Generic[Item, Result]):
    """Calls ``compute(items)`` in a thread of its own, with all items of one key that wait, MOST at a time.

    Torch uses every core for one call, so two at once would slow each other down; and it starts a new team of threads
    in every thread that calls it, which a session's script, a new thread for each run, would pay for each time.
    """

    def __init__(self, compute: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self.compute = compute
        self.waiting: SimpleQueue[tuple[Hashable, Item, Future[Result]]] = SimpleQueue()
        Thread(target=self._serve, name="batches", daemon=True).start()

    def __call__(self, key: Hashable, item: Item) -> Result:
        """The result for ``item``, after those before it. Raises what computing it alone raises."""
        future: Future[Result] = Future()
        self.waiting.put((key, item, future))
        return future.result()

    def _serve(self) -> None:
        queues: dict[Hashable, list[tuple[Item, Future[Result]]]] = {}  # in the order of each key's oldest request
        while True:
            while not queues or not self.waiting.empty():
                key, item, future = self.waiting.get()
                queues.setdefault(key, []).append((item, future))
            key = next(iter(queues))
            requests = queues.pop(key)
            if len(requests) > MOST:
                queues[key] = requests[MOST:]  # behind the other keys: no checkpoint starves another
            self._answer(requests[:MOST])

    def _answer(self, requests: list[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self.compute([item for item, _ in requests])
            for (_, future), result in zip(requests, results, strict=True):
                future.set_result(result)
        except Exception as error:
            if len(requests) == 1:
                requests[0][1].set_exception(error)
                return
            for request in requests:  # one bad image must not spoil its neighbours
                self._answer([request])
