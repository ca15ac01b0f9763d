"""Transactions: several changes as one, for a thread and for an asyncio task."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import warnings

import pytest

import redundict

from . import inside


def test_two_tasks_that_wait_for_each_other_lose_no_change(path: str) -> None:
    """Tasks that read, wait and write in `async with` count every one of their steps."""

    async def count(state: redundict.RedunDict) -> None:
        for _ in range(3):
            async with state.transaction():
                seen = state.get("n", 0)
                await asyncio.sleep(0)
                state["n"] = seen + 1

    async def main() -> None:
        with redundict.open(path) as state:
            await asyncio.gather(*(count(state) for _ in range(4)))
            assert state["n"] == 12

    asyncio.run(main())
    assert redundict.load(path) == {"n": 12}


def test_a_task_does_not_join_the_transaction_of_another(path: str) -> None:
    """With plain `with`, the second task is refused before it changes anything."""

    async def main() -> None:
        with redundict.open(path) as state:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                with state.transaction():
                    state["first"] = 1
                    begun.set()
                    await go_on.wait()

            task = asyncio.create_task(first())
            await begun.wait()
            with pytest.raises(redundict.TransactionError) as caught, state.transaction():
                state["second"] = 2
            assert caught.value.reason == "other-task"
            go_on.set()
            await task
            assert state == {"first": 1}

    asyncio.run(main())
    assert redundict.load(path) == {"first": 1}


def test_a_task_that_fails_undoes_its_own_changes_only(path: str) -> None:
    """A transaction that came before stands, and the one that waited goes on from there."""

    async def add(state: redundict.RedunDict, key: str) -> None:
        async with state.transaction():
            state[key] = 1
            await asyncio.sleep(0)
            if key == "bad":
                raise KeyError(key)

    async def main() -> list[object]:
        with redundict.open(path) as state:
            keys = ("one", "bad", "two")
            return await asyncio.gather(*(add(state, k) for k in keys), return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())] == [type(None), KeyError, type(None)]
    assert redundict.load(path) == {"one": 1, "two": 1}


def test_a_task_that_is_cancelled_while_it_waits_leaves_no_lock_behind(path: str) -> None:
    """The transaction that it waited for commits, and another thread can sync."""

    async def main() -> None:
        with redundict.open(path) as state:
            async with state.transaction():
                state["n"] = 1

                async def wait() -> None:
                    async with state.transaction():
                        state["n"] = 2

                waiting = asyncio.create_task(wait())
                await asyncio.sleep(0.01)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            other = threading.Thread(target=state.sync, daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
            assert state == {"n": 1}

    asyncio.run(main())


def test_a_commit_in_the_background_can_be_awaited_by_several(path: str) -> None:
    """To cancel one that waits cancels neither the commit nor the waiting of another."""

    async def main() -> None:
        with redundict.open(path) as state:
            state["n"] = 1
            future = state.sync_soon()

            async def wait() -> int:
                return await future

            one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
            await asyncio.sleep(0)
            one.cancel()
            assert await other == 1

    asyncio.run(main())
    assert redundict.load(path) == {"n": 1}


@pytest.mark.parametrize("how", ["warning", "callback"])
@pytest.mark.parametrize("act", ["rollback", "transaction"])
def test_what_is_durable_is_not_undone_by_what_it_is_told_with(
    path: str, monkeypatch: pytest.MonkeyPatch, act: str, how: str
) -> None:
    """A warning that is an error, or a callback that raises, changes neither memory nor disk."""

    def tell(_: redundict.Event) -> None:
        if how == "callback":
            raise RuntimeError

    with redundict.open(path, keep=2, on_event=tell) as state:
        for state["n"] in (1, 2):
            state.sync()
        with monkeypatch.context() as patch, warnings.catch_warnings():
            inside.fail_on(patch, ("open_write", "create"), errno.EIO, ".b0", ".b1")
            warnings.simplefilter("error" if how == "warning" else "ignore")
            raised = pytest.raises(redundict.RedundancyWarning)
            with raised if how == "warning" else warnings.catch_warnings():
                if act == "rollback":
                    state.rollback()
                else:
                    with state.transaction():
                        state["n"] = 1
        assert state == {"n": 1}
        assert redundict.load(path) == {"n": 1}
        state["n"] = 3
        state.sync()
        state["n"] = 4


def test_an_error_of_the_function_s_own_is_no_conflict_of_the_store(path: str) -> None:
    """A function that raises `ConflictError` is called once, and nothing of it stays."""
    calls = []

    def change(state: redundict.RedunDict) -> None:
        calls.append(1)
        state["n"] = 2
        raise redundict.ConflictError("of its own")

    with redundict.open(path, shared=True) as state:
        state["n"] = 1
        state.sync()
        with pytest.raises(redundict.ConflictError, match="of its own"):
            state.modify(change)
        assert (calls, state) == ([1], {"n": 1})
    assert redundict.load(path) == {"n": 1}


def test_modify_returns_what_its_function_returned(path: str) -> None:
    """Whatever that is; the generation is an attribute."""
    with redundict.open(path, shared=True) as state:
        assert state.modify(lambda it: it.setdefault("list", [])) == []
        assert state.generation == 1


DEFAULTS = {"size": {"width": 640, "height": 480}, "title": "new"}


@pytest.mark.parametrize("enter", ["open", "reload", "rollback", "modify", "undo"])
def test_defaults_lie_under_every_state_that_enters_memory(path: str, enter: str) -> None:
    """Nested dicts are filled in, too, and what was saved goes before."""
    with redundict.open(path) as state:
        for state["size"] in ({"width": 1}, {"width": 2}):
            state.sync()
    with redundict.open(path, defaults=DEFAULTS) as state:
        wanted = {"size": {"width": 2, "height": 480}, "title": "new"}
        assert state == wanted
        if enter == "rollback":
            state.rollback(1)
            wanted["size"]["width"] = 1
        elif enter == "modify":
            state.modify(lambda _: None)
        elif enter == "undo":
            with pytest.raises(KeyError), state.transaction():
                state.clear()
                raise KeyError
        elif enter == "reload":
            del state["title"]
            state.reload()
        assert state == wanted
        assert DEFAULTS["size"] == {"width": 640, "height": 480}


def test_a_store_is_not_opened_twice_by_the_same_object(path: str) -> None:
    """`__init__` of an open store raises before anything is touched."""
    with redundict.open(path) as state:
        state["n"] = 1
        with pytest.raises(redundict.LockedError) as caught:
            state.__init__(f"{path}.other")
        assert (caught.value.reason, caught.value.pid) == ("open-already", os.getpid())
        assert state == {"n": 1}
        assert state.sync() == 1
    assert not os.path.exists(f"{path}.other.lock")


def in_a_thread(state: redundict.RedunDict, go_on: threading.Event) -> threading.Thread:
    """Return a thread that is in the middle of a transaction until `go_on` is set."""
    begun = threading.Event()

    def act() -> None:
        with state.transaction():
            state["theirs"] = 1
            begun.set()
            assert go_on.wait(20)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    assert begun.wait(10)
    return thread


def test_modify_beside_the_transaction_of_another_thread_leaves_none_open(path: str) -> None:
    """It waits for the end of that transaction, and its own ends with it."""
    with redundict.open(path) as state:
        go_on = threading.Event()
        first = in_a_thread(state, go_on)
        second = threading.Thread(target=lambda: state.modify(lambda it: it.update(mine=1)))
        second.start()
        second.join(0.05)
        go_on.set()
        first.join(10)
        second.join(10)
        state["n"] = 1
        state.sync()
    assert redundict.load(path) == {"theirs": 1, "mine": 1, "n": 1}


def test_the_end_of_the_store_s_block_waits_for_the_transaction_of_a_thread(path: str) -> None:
    """What another thread is changing as one is committed, not undone."""
    go_on = threading.Event()
    with redundict.open(path) as state:
        thread = in_a_thread(state, go_on)
        threading.Timer(0.05, go_on.set).start()
    thread.join(10)
    assert redundict.load(path) == {"theirs": 1}


def test_modify_inside_a_transaction_does_not_hide_that_a_part_failed(path: str) -> None:
    """A refused call changes nothing of the transaction around it."""
    with redundict.open(path) as state:
        with pytest.raises(redundict.TransactionError) as caught, state.transaction():
            with pytest.raises(KeyError), state.transaction():
                raise KeyError
            with pytest.raises(redundict.TransactionError):
                state.modify(lambda it: it.update(n=1))
        assert caught.value.reason == "failed-inside"
