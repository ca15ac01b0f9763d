"""Threads that change one store, with a lock and without: nothing fails, nothing is torn."""

from __future__ import annotations

import _thread
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import redundict

from . import inside

THREADS = 8


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    """Let threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], None]) -> None:
    """Run each in a thread of its own; raise what the first of them raised."""
    raised: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_a_sync_beside_threads_that_change_everything_never_fails(path: str) -> None:
    """Without any lock: keys come and go, lists grow and shrink, and each commit is a state."""
    commits, over = 0, threading.Event()

    with redundict.open(path) as state:
        state.update({"d": {str(n): [n] for n in range(200)}, "l": list(range(200))})

        def change() -> None:
            rng = random.Random(threading.get_ident())
            while not over.is_set():
                state[f"k{rng.randrange(300)}"] = {"x": [1, 2]}
                state.pop(f"k{rng.randrange(300)}", None)
                state["d"][f"n{rng.randrange(300)}"] = [rng.random()]
                state["d"].pop(f"n{rng.randrange(300)}", None)
                state["l"].append(rng.randrange(9))
                del state["l"][: rng.randrange(3)]

        def sync() -> None:
            nonlocal commits
            try:
                for _ in range(100):
                    state.sync()
                    commits += 1
            finally:
                over.set()

        together(*[change] * 3, sync)
    assert commits == 100
    assert redundict.load(path)["d"]["1"] == [1]


def test_a_recipe_s_dict_that_was_closed_is_synced_beside_threads_too(path: str) -> None:
    """Its first `sync` after a `close` looks at the state as carefully as every other."""
    state = redundict.PermaDict(path)
    state.update({str(n): [n] for n in range(2000)})
    over = threading.Event()

    def change() -> None:
        rng = random.Random(1)
        while not over.is_set():
            state.pop(str(rng.randrange(4000)), None)
            state[str(rng.randrange(4000))] = [1]

    def sync() -> None:
        try:
            for _ in range(40):
                state.close()
                state.sync()
        finally:
            over.set()

    together(change, sync)
    state.close()


def test_what_a_future_calls_in_the_background_may_change_everything(path: str) -> None:
    """A callback that runs in the background thread changes the dict beside a `sync`."""
    with redundict.open(path) as state:
        state.update({str(n): [n] for n in range(300)})
        rng = random.Random(1)

        def change(_: object) -> None:
            for _ in range(500):
                state.pop(str(rng.randrange(600)), None)
                state[str(rng.randrange(600))] = [1]

        for state["n"] in range(50):
            state.sync_soon().add_done_callback(change)
            state.sync()
    assert redundict.load(path)["n"] == 49


def test_a_thread_that_python_does_not_know_does_not_fail_a_sync(path: str) -> None:
    """Toolkits have threads of their own, which call Python and are in no list."""
    over, ended = threading.Event(), threading.Event()
    with redundict.open(path) as state:
        state.update({str(n): [n] for n in range(300)})

        def change() -> None:
            rng = random.Random(1)
            while not over.is_set():
                state.pop(str(rng.randrange(600)), None)
                state[str(rng.randrange(600))] = [1]
            ended.set()

        _thread.start_new_thread(change, ())
        try:
            for _ in range(500):
                state.sync()
        finally:
            over.set()
            assert ended.wait(10)


@pytest.mark.parametrize("how", ["transaction", "lock"])
def test_an_invariant_over_two_values_holds_in_every_generation(
    path: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What a block changes as one is never committed half, whichever thread commits."""
    written = inside.payloads_committed(monkeypatch)
    with redundict.open(path) as state:
        state.update({"from": {"sum": 1000}, "to": {"sum": 0}})

        def move() -> None:
            rng = random.Random(threading.get_ident())
            for _ in range(20):
                with state.transaction() if how == "transaction" else state.lock:
                    amount = rng.randrange(10)
                    state["from"]["sum"] -= amount
                    time.sleep(0)
                    state["to"]["sum"] += amount

        def sync() -> None:
            for _ in range(50):
                state.sync()

        together(*[move] * (THREADS - 2), sync, sync)
    assert len(written) > 50
    for payload in written:
        state_then = inside.decode(payload)
        assert state_then["from"]["sum"] + state_then["to"]["sum"] == 1000


def test_increments_of_eight_threads_are_all_there(path: str) -> None:
    """Each transaction sees those before it: none is overwritten."""
    with redundict.open(path) as state:
        state["n"] = 0

        def count() -> None:
            for _ in range(25):
                with state.transaction():
                    state["n"] += 1

        together(*[count] * THREADS)
        assert state["n"] == 25 * THREADS
    assert redundict.load(path) == {"n": 25 * THREADS}


def test_a_failed_transaction_undoes_its_own_changes_only(path: str) -> None:
    """What other threads committed before it stays."""
    with redundict.open(path) as state:
        state.update({"good": 0, "bad": 0})

        def succeed() -> None:
            for _ in range(20):
                with state.transaction():
                    state["good"] += 1

        def fail() -> None:
            for _ in range(20):
                with pytest.raises(KeyError), state.transaction():
                    state["bad"] += 1
                    raise KeyError

        together(succeed, fail)
        assert state == {"good": 20, "bad": 0}


def test_the_snapshot_is_what_keeps_a_sync_from_failing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the first of these tests fails: the threads do meet the encoder."""
    inside.without_snapshots(monkeypatch)
    with pytest.raises((RuntimeError, redundict.RedundictError)):
        for _ in range(20):
            test_a_sync_beside_threads_that_change_everything_never_fails(path)
