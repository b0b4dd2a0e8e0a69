"""The thread that computes every posterior: batches, order, errors."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from app import batching
from app.batching import MOST, Batcher, LeftError
from gpvae_core.errors import InputError


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


def test_nothing_is_computed_for_whoever_left_and_the_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(batching, "MOST_WAITING", 5)
    calls, started, go, here = [], Event(), Event(), {"b": True}

    def compute(items):
        calls.extend(items)
        started.set()
        assert go.wait(30)
        return items

    batcher = Batcher(compute)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batcher, "", "a")
        assert started.wait(30)
        leaves = pool.submit(batcher, "", "b", lambda: here["b"])
        stays = [pool.submit(batcher, "", item) for item in "cde"]
        while batcher.waiting.qsize() < 4:
            pass
        with pytest.raises(InputError, match="5 requests wait"):
            batcher("", "f")
        here["b"] = False
        go.set()
        assert first.result(30) == "a" and [one.result(30) for one in stays] == list("cde")
        with pytest.raises(LeftError):
            leaves.result(30)
    assert sorted(calls) == list("acde") and batcher.open == 0
    assert batcher("", "g") == "g"
