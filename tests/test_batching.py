"""The thread that computes every posterior: batches, order, errors."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from app.batching import MOST, Batcher


def test_requests_that_wait_together_are_computed_together_and_answered_each_its_own():
    calls, started, go = [], Event(), Event()

    def compute(items):
        calls.append(list(items))
        started.set()
        assert go.wait(30)
        return [10 * item for item in items]

    batcher = Batcher(compute)
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(batcher, "a", 0)
        assert started.wait(30)
        later = [pool.submit(batcher, key, item) for key in "ab" for item in range(1, MOST + 3)]
        while batcher.waiting.qsize() < len(later):
            pass
        go.set()
        assert first.result(30) == 0
        assert [future.result(30) for future in later] == 2 * [10 * item for item in range(1, MOST + 3)]
    assert calls[0] == [0]
    assert sorted(map(len, calls[1:])) == [2, 2, MOST, MOST]


def test_one_bad_item_fails_alone():
    started, go = Event(), Event()

    def compute(items):
        started.set()
        assert go.wait(30)
        return [1 / item for item in items]

    batcher = Batcher(compute)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, "", 1)
        assert started.wait(30)
        futures = [pool.submit(batcher, "", item) for item in (2, 0, 4)]
        while batcher.waiting.qsize() < len(futures):
            pass
        go.set()
        assert first.result(30) == 1
        assert {future.result(30) for future in (futures[0], futures[2])} == {0.5, 0.25}
        with pytest.raises(ZeroDivisionError):
            futures[1].result(30)
