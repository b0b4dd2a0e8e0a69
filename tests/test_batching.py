"""The thread that computes every posterior: batches, order, errors."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData, ScriptRequests

from app import batching, loaders
from app.batching import LONG, MOST, Batcher, LeftError
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


def test_nobody_is_passed_twice_by_another_session_whatever_its_checkpoint():
    served, started, go = [], Event(), Event()

    def compute(items):
        started.set()
        assert go.wait(30)
        served.extend(items)
        if "greedy" in items:  # asks again as soon as it is answered
            again.append(pool.submit(batcher, "b", "greedy again"))
            while batcher.waiting.qsize() < 1:
                pass
        return items

    batcher, again, waiting = Batcher(compute), [], []
    in_turn = [*(("a", k) for k in range(2 * MOST + 1)), ("b", "greedy")]
    with ThreadPoolExecutor(32) as pool:
        first = pool.submit(batcher, "a", "first")
        assert started.wait(30)
        for key, item in in_turn:
            waiting.append(pool.submit(batcher, key, item))
            while batcher.waiting.qsize() < len(waiting):
                pass
        go.set()
        assert [future.result(30) for future in [first, *waiting]] == ["first", *(item for _, item in in_turn)]
        assert again[0].result(30) == "greedy again"
    assert served == ["first", *(item for _, item in in_turn), "greedy again"]


def test_what_takes_long_lets_one_turn_pass_at_a_time_and_who_has_it_gives_none_away():
    told, now, started, go = [], [0.0], Event(), Event()

    def compute(items):
        (item,) = items
        started.set()
        assert go.wait(30)
        for step in range(7 if "long" in item else 1):
            now[0] += 0.4 * LONG
            batcher.pause()
            told.append(f"{item} {step}")
        return items

    batcher = Batcher(compute, clock=lambda: now[0])
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(batcher, "a", "long")]
        assert started.wait(30)
        for key in ("also long", "short", "shorter"):
            asked.append(pool.submit(batcher, key, key))
            while batcher.waiting.qsize() < len(asked) - 1:
                pass
        batcher.pause()  # of another thread: not its business
        go.set()
        assert [one.result(30) for one in asked] == ["long", "also long", "short", "shorter"]
    also = [f"also long {k}" for k in range(7)]
    first, then, last = (["long 0", "long 1"], ["long 2", "long 3", "long 4"], ["long 5", "long 6"])
    assert told == [*first, *also, *then, "short 0", *last, "shorter 0"]


def test_what_takes_long_ends_once_nobody_waits_for_it():
    now, started, go, here = [0.0], Event(), Event(), {"it"}

    def compute(items):
        started.set()
        assert go.wait(30)
        while "it" in items:
            now[0] += LONG
            batcher.pause()
        return items

    batcher = Batcher(compute, clock=lambda: now[0])
    with ThreadPoolExecutor(2) as pool:
        leaves = pool.submit(batcher, "", "it", lambda: "it" in here)
        assert started.wait(30)
        here.clear()
        go.set()
        with pytest.raises(LeftError):
            leaves.result(30)
    assert batcher("", "another") == "another"


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


def test_what_several_ask_for_is_computed_once_as_long_as_one_of_them_stays():
    calls, started, go = [], Event(), Event()

    def compute(items):
        calls.extend(items)
        started.set()
        assert go.wait(30)
        return items

    batcher, here = Batcher(compute), [True] * 30
    batcher.ask("a", "before")
    assert started.wait(30)
    asked = [batcher.ask("a", "image", lambda k=k: here[k], same="image") for k in range(30)]
    gone = batcher.ask("a", "left", lambda: False, same="left")
    here[:29] = [False] * 29  # even who asked first
    go.set()
    assert [one.future.result(30) for one in asked] == ["image"] * 30
    with pytest.raises(LeftError):
        gone.future.result(30)
    assert batcher.ask("a", "left", same="left").future.result(30) == "left"  # nobody shares what was given up
    assert calls == ["before", "image", "left"]


def test_a_class_presses_and_one_who_looks_alone_does_not(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(batching.time, "monotonic", lambda: now[0])
    batcher = Batcher(list)
    for _ in range(10):
        batcher.ask("a", 0)
        assert not batcher.pressed()
        now[0] += 1.0
    for _ in range(batching.FEW):
        batcher.ask("a", 0)
    assert batcher.pressed()
    now[0] += batching.WITHIN
    assert not batcher.pressed()


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


def test_a_newer_request_of_the_session_drops_the_older_one_but_a_fragment_of_the_page_does_not(monkeypatch):
    asked = ScriptRequests()
    run = SimpleNamespace(session_id="one", script_requests=asked)
    monkeypatch.setattr(loaders, "get_script_run_ctx", lambda: run)
    monkeypatch.setattr(loaders.runtime, "exists", lambda: True)
    server = SimpleNamespace(is_active_session=lambda session: session == "one")
    monkeypatch.setattr(loaders.runtime, "get_instance", lambda: server)
    wanted = loaders._newest()
    assert wanted()
    asked.request_rerun(RerunData(fragment_id="a part that renews itself"))
    assert wanted()
    asked.request_rerun(RerunData())
    assert not wanted()
    assert asked.on_scriptrunner_yield() is not None  # Streamlit breaks off that run, and begins the next
    assert wanted()
