"""Transactions: several changes as one, for a thread and for an asyncio task."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

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


#: What others do to the dict during a transaction, and what an undo leaves of {"a": 1, "b": 2}.
BY_OTHERS: dict[str, tuple[Callable[[Any], object], dict[str, int]]] = {
    "assign": (lambda state: state.__setitem__("c", 3), {"a": 1, "b": 2, "c": 3}),
    "assign again": (lambda state: state.__setitem__("a", 3), {"a": 3, "b": 2}),
    "delete": (lambda state: state.__delitem__("a"), {"b": 2}),
    "pop": (lambda state: state.pop("a"), {"b": 2}),
    "popitem": (lambda state: state.popitem(), {"a": 1, "b": 2}),
    "clear": (lambda state: state.clear(), {}),
    "update": (lambda state: state.update({"a": 3}, c=3), {"a": 3, "b": 2, "c": 3}),
    "update pairs": (lambda state: state.update([("a", 3)]), {"a": 3, "b": 2}),
    "or": (lambda state: state.__ior__({"c": 3}), {"a": 1, "b": 2, "c": 3}),
    "setdefault": (lambda state: state.setdefault("c", 3), {"a": 1, "b": 2, "c": 3}),
    "setdefault in vain": (lambda state: state.setdefault("a", 3), {"a": 1, "b": 2}),
}


def in_another_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("kind", [redundict.open, redundict.PermaDict])
@pytest.mark.parametrize("what", BY_OTHERS)
def test_an_undo_keeps_what_others_assigned_meanwhile(path: str, kind: Any, what: str) -> None:
    """Only the transaction's own changes are undone; the rest is saved by the next sync."""
    act, left = BY_OTHERS[what]
    with kind(path) as state:
        state.update(a=1, b=2)
        own = type(state)
        with pytest.raises(ZeroDivisionError), state.transaction():
            state["own"] = 1
            in_another_thread(lambda: act(state))
            state["own"] = 2
            1 / 0  # noqa: B018 - it raises
        assert dict(state) == left
        assert type(state) is own
    assert redundict.load(path) == left


@pytest.mark.parametrize("what", BY_OTHERS)
def test_an_undo_undoes_the_same_changes_of_its_own(path: str, what: str) -> None:
    """Whatever method of dict made a change, the transaction's own are all undone."""
    with redundict.open(path) as state:
        state.update(a=1, b=2)
        with pytest.raises(ZeroDivisionError), state.transaction():
            BY_OTHERS[what][0](state)
            1 / 0  # noqa: B018 - it raises
        assert dict(state) == {"a": 1, "b": 2}


def test_an_undo_keeps_what_another_thread_assigns_while_memory_is_replaced(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an assignment in the middle of the undo is lost."""
    with redundict.open(path) as state:
        state.update(a=1, b=2)

        other = threading.Thread(target=lambda: state.update(a=3, c=3))

        def interfere() -> None:
            other.start()
            other.join(0.05)  # it waits for the end of the undo, or else it is done

        with pytest.raises(ZeroDivisionError), state.transaction():
            state["own"] = 1
            inside.call_while_replacing(monkeypatch, interfere)
            1 / 0  # noqa: B018 - it raises
        other.join()
        assert state == {"a": 3, "b": 2, "c": 3}


def test_an_undo_of_modify_keeps_what_others_assigned_meanwhile(path: str) -> None:
    """The function's own changes are undone, those of another thread are not."""
    with redundict.open(path) as state:
        state["a"] = 1
        state.sync()

        def fail(store: redundict.RedunDict) -> None:
            store["own"] = 1
            in_another_thread(lambda: store.update(other=2))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            state.modify(fail)
        assert state == {"a": 1, "other": 2}
        assert type(state) is redundict.RedunDict


def test_a_commit_of_another_task_s_transaction_is_refused_by_name(path: str) -> None:
    """The error does not say that the caller is inside a transaction: another task is."""

    async def main() -> None:
        with redundict.open(path) as state:
            async with state.transaction():
                for call in (state.sync, state.reload, lambda: state.modify(len)):
                    error = await asyncio.create_task(refused(call))
                    assert error.reason == "other-task"

    async def refused(call: Callable[[], object]) -> redundict.TransactionError:
        with pytest.raises(redundict.TransactionError) as caught:
            call()
        return caught.value

    asyncio.run(main())


@pytest.mark.parametrize("shared", [False, True])
def test_threads_that_modify_at_the_same_time_lose_nothing(path: str, shared: bool) -> None:
    """Each of eight threads sees the changes of all others."""
    with redundict.open(path, shared=shared, defaults={"n": 0}) as state:

        def count() -> None:
            for _ in range(10):
                state.modify(lambda store: store.update(n=store["n"] + 1))

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert redundict.load(path) == {"n": 80}


def test_tasks_that_modify_at_the_same_time_lose_nothing(path: str) -> None:
    """`modify` waits for the disk, so no other task runs in between."""

    async def count(state: redundict.RedunDict) -> None:
        for _ in range(5):
            state.modify(lambda store: store.update(n=store["n"] + 1))
            await asyncio.sleep(0)

    async def main() -> None:
        with redundict.open(path, defaults={"n": 0}) as state:
            await asyncio.gather(*(count(state) for _ in range(8)))

    asyncio.run(main())
    assert redundict.load(path) == {"n": 40}


@pytest.mark.parametrize("removal", ["del", "pop", "pop with a default"])
def test_a_removal_of_another_thread_that_failed_removes_nothing(path: str, removal: str) -> None:
    """The item was gone when the other thread came, and the undo brings it back."""
    acts: dict[str, Callable[[Any], object]] = {
        "del": lambda state: state.__delitem__("a"),
        "pop": lambda state: state.pop("a"),
        "pop with a default": lambda state: state.pop("a", None),
    }

    def act() -> None:
        with contextlib.suppress(KeyError):
            acts[removal](state)

    with redundict.open(path) as state:
        state["a"] = 1
        with pytest.raises(ZeroDivisionError), state.transaction():
            del state["a"]
            in_another_thread(act)
            1 / 0  # noqa: B018 - it raises
        assert state == {"a": 1}


def test_every_key_can_be_updated_in_a_transaction(path: str) -> None:
    """No name of a parameter is in the way of an item."""
    items = {"self": 1, "others": 2, "more": 3, "key": 4}
    with redundict.open(path) as state:
        with state.transaction():
            state.update(**items)
            in_another_thread(lambda: state.update(**items))
        assert state == items


class Tagged(redundict.RedunDict):
    """A class whose subclasses need an argument, and which changes keys."""

    def __init_subclass__(cls, *, tag: str) -> None:
        raise AssertionError(tag)

    def __setitem__(self, key: str, value: object) -> None:
        super().__setitem__(key.lower(), value)


def test_a_class_of_the_application_keeps_its_ways_in_a_transaction(path: str) -> None:
    """Its own methods run, and the classes that stand in for it need no arguments."""
    with Tagged(path) as state:
        with pytest.raises(ZeroDivisionError), state.transaction():
            state["A"] = 1
            in_another_thread(lambda: state.__setitem__("B", 2))
            1 / 0  # noqa: B018 - it raises
        assert dict(state) == {"b": 2}
    with Tagged(path, "r") as reader, pytest.raises(redundict.ReadOnlyError):
        reader["c"] = 3
    assert redundict.load(path) == {"b": 2}


def test_a_transaction_object_is_entered_once_at_a_time(path: str) -> None:
    """A second `with` of the same object is refused; the first one goes on and commits."""
    with redundict.open(path) as state:
        transaction = state.transaction()
        with transaction:
            state["a"] = 1
            with pytest.raises(redundict.TransactionError, match="has begun already"):
                transaction.__enter__()

            def enter() -> None:
                with pytest.raises(redundict.TransactionError):
                    transaction.__enter__()
                refused.append(True)

            refused: list[bool] = []
            in_another_thread(enter)
            assert refused
            state["b"] = 2
        assert redundict.load(path) == {"a": 1, "b": 2}
        with transaction:
            state["c"] = 3
    assert redundict.load(path) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit, RuntimeError])
def test_any_exception_leaves_a_transaction_as_it_is(path: str, kind: type[Exception]) -> None:
    """Not even what ends iterators becomes another exception."""
    error = kind("mine")
    with redundict.open(path) as state:
        state["a"] = 1
        with pytest.raises(kind) as caught, state.transaction():
            state["b"] = 2
            raise error
        assert caught.value is error
        assert state == {"a": 1}


def test_what_a_transaction_starts_is_part_of_it(path: str) -> None:
    """Tasks that begin inside, and functions for `asyncio.to_thread`, are undone with it."""

    async def change(state: Any) -> None:
        state["task"] = 1
        await asyncio.to_thread(state.update, thread=1)

    async def main(state: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            async with state.transaction():
                await asyncio.create_task(change(state))
                await asyncio.to_thread(state.update, other=1)
                1 / 0  # noqa: B018 - it raises

    with redundict.open(path) as state:
        state["a"] = 1
        asyncio.run(main(state))
        assert state == {"a": 1}
        with pytest.raises(ZeroDivisionError), state.transaction():
            asyncio.run(change(state))
            1 / 0  # noqa: B018 - it raises
        assert state == {"a": 1}


def test_a_task_that_began_before_a_transaction_is_another_one(path: str) -> None:
    """Its assignments stay, also if it runs in the middle of the transaction."""

    async def other(state: Any, begun: asyncio.Event, done: asyncio.Event) -> None:
        await begun.wait()
        state["other"] = 1
        done.set()

    async def main(state: Any) -> None:
        begun, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(other(state, begun, done))
        with pytest.raises(ZeroDivisionError):
            async with state.transaction():
                state["own"] = 1
                begun.set()
                await done.wait()
                1 / 0  # noqa: B018 - it raises
        await task

    with redundict.open(path) as state:
        asyncio.run(main(state))
        assert state == {"other": 1}


class Value(list[int]):
    """A value to which a weak reference can be made."""


def test_nothing_is_kept_of_a_transaction_that_has_ended(path: str) -> None:
    """Not even a value that another thread assigned, and that was deleted since."""
    values = [Value()]
    gone = weakref.ref(values[0])
    with redundict.open(path, format="pickle") as state:
        with state.transaction():
            in_another_thread(lambda: state.__setitem__("b", values.pop()))
        del state["b"]
        gc.collect()
        assert gone() is None


def test_an_undo_keeps_what_others_assign_while_it_begins(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first commit of a transaction takes its time, in which other threads go on."""
    with redundict.open(path, keep=2) as state:
        for state["a"] in (1, 2):
            state.sync()

        class Interfering(inside.Disk):
            def sync_data(self, fd: Any) -> None:
                in_another_thread(lambda: state.update(other=1))
                in_another_thread(lambda: state.pop("a", None))
                super().sync_data(fd)

        with monkeypatch.context() as patch:
            inside.use_disk(patch, Interfering())
            state["a"] = 4
            with pytest.raises(ZeroDivisionError), state.transaction():
                patch.undo()
                1 / 0  # noqa: B018 - it raises
        assert state == {"other": 1}


@pytest.mark.parametrize("what", BY_OTHERS)
def test_a_transaction_that_ends_in_the_middle_of_a_change_of_another_thread_breaks_nothing(
    path: str, what: str
) -> None:
    """The dict gets its own class back while another thread is in a method of the other one."""
    with redundict.open(path) as state:
        state.update(a=1, b=2)
        begun, over = threading.Event(), threading.Event()
        raised: list[BaseException] = []

        def stop(frame: Any, event: str, _: object) -> None:
            if event == "call" and "noting" in frame.f_code.co_filename:
                sys.setprofile(None)
                begun.set()
                over.wait(10)

        def change() -> None:
            sys.setprofile(stop)
            try:
                BY_OTHERS[what][0](state)
            except BaseException as error:  # noqa: BLE001 - none is expected
                raised.append(error)

        thread = threading.Thread(target=change)
        with state.transaction():
            thread.start()
            assert begun.wait(10)
        over.set()
        thread.join()
        assert raised == []
        assert dict(state) == BY_OTHERS[what][1] or what == "popitem"
