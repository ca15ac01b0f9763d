"""Formats beside other threads: what is encoded is one state, whatever happens to the dict."""

from __future__ import annotations

import _thread
import copy
import marshal
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redundict.formats import snapshots
from redundict.formats.resolve import Format, resolve
from redundict.formats.snapshots import snapshot

from .formats import Opaque, namespace, refusal_of

TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=15,
)
STATES = st.dictionaries(st.text(max_size=2), TREES)


def empty(value: Any) -> None:
    """Empty every container of a tree."""
    if isinstance(value, dict):
        for inner in value.values():
            empty(inner)
        value.clear()
    elif isinstance(value, list):
        for inner in value:
            empty(inner)
        value.clear()


@given(state=STATES)
def test_a_snapshot_is_equal_and_shares_no_container(state: dict[str, Any]) -> None:
    """Whatever is done to the state afterwards, its snapshot stays as it was."""
    before = copy.deepcopy(state)
    taken = snapshot(state)
    assert taken == before
    empty(state)
    assert taken == before


def test_what_is_shared_or_cyclic_is_so_in_the_copy() -> None:
    """The shape is kept, and a cycle does not hang."""
    inner: list[Any] = [1]
    state: dict[str, Any] = {"a": inner, "b": {"again": inner}}
    state["self"] = state
    taken = snapshot(state)
    assert taken["a"] is taken["b"]["again"]
    assert taken["a"] is not inner
    assert taken["self"] is taken


def test_depth_does_not_overflow() -> None:
    """No recursion: a state may be nested deeper than Python calls."""
    state: dict[str, Any] = {}
    for _ in range(100_000):
        state = {"a": state}
    assert snapshot(state)["a"]["a"] is not state["a"]["a"]


def test_a_set_is_copied() -> None:
    """Pickle stores sets, and another thread may add to one."""
    taken = snapshot(state := {"a": [{1, 2}]})
    state["a"][0].add(3)
    assert taken == {"a": [{1, 2}]}


def test_objects_of_other_types_are_taken_as_they_are() -> None:
    """Only plain dicts, lists and sets are copied: a format has to refuse or hold the rest."""

    class Special(dict[Any, Any]):
        pass

    special, pair = Special(), ({},)
    taken = snapshot({"s": special, "p": pair})
    assert taken["s"] is special
    assert taken["p"] is pair


# --- what the formats promise

FORMATS: dict[str, Callable[[], Format]] = {
    "json": lambda: resolve("json"),
    "json told": lambda: resolve("json", lambda *_: None),
    "csv": lambda: resolve("csv"),
    "literal": lambda: resolve("literal"),
    "literal told": lambda: resolve("literal", lambda *_: None),
    "pickle": lambda: resolve("pickle"),
    "marshal": lambda: resolve(marshal),
}


def turn(state: dict[str, Any], number: int) -> None:
    """Change keys, nested keys and lists, so that every container changes its size all the time."""
    key = f"k{number % 50}"
    state.pop(key, None)
    state[key] = {f"n{number}": [str(number)] * (number % 7), "deep": {"er": {}}}
    inner = state[f"k{number * 7 % 50}"]
    inner[f"m{number}"] = number
    del inner[f"m{number}"]
    inner["deep"]["er"] = {str(n): [n] for n in range(number % 5)}
    inner["deep"].update(dict.fromkeys(map(str, range(number % 9))))


@pytest.mark.parametrize("name", FORMATS)
def test_other_threads_never_make_an_encode_fail(name: str) -> None:
    """A format may be given the live dict, which other threads go on changing."""
    state: dict[str, Any] = {f"k{n}": {"deep": {"er": {}}} for n in range(50)}
    is_over = threading.Event()

    def change() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            if name == "csv":
                state.pop(f"k{number % 50}", None)
                state[f"k{number % 50}"] = state[f"new{number % 200}"] = str(number)
            else:
                turn(state, number)

    if name == "csv":
        state = dict.fromkeys(state, "text")
    interval, thread = sys.getswitchinterval(), threading.Thread(target=change)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        format = FORMATS[name]()
        for _ in range(100):
            assert len(format.decode(format.encode(state))) >= 49
    finally:
        is_over.set()
        thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("name", FORMATS)
def test_a_thread_that_threading_does_not_know_never_makes_an_encode_fail(name: str) -> None:
    """Such a thread changes the state at any moment, too; `threading` does not list it."""
    leaf: Any = "text" if name == "csv" else {"deep": {"er": {}}}
    state: dict[str, Any] = {f"k{n}": leaf for n in range(50)}
    is_over, ended = threading.Event(), _thread.allocate_lock()

    def change() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            if name == "csv":
                state[f"k{number % 50}"] = state[f"new{number % 200}"] = str(number)
                del state[f"new{number % 200}"]
            else:
                turn(state, number)
        ended.release()

    interval, known = sys.getswitchinterval(), threading.active_count()
    sys.setswitchinterval(1e-6)
    ended.acquire()
    _thread.start_new_thread(change, ())
    try:
        format = FORMATS[name]()
        for _ in range(100):
            assert len(format.decode(format.encode(state))) >= 49
            assert threading.active_count() == known
    finally:
        is_over.set()
        ended.acquire()
        sys.setswitchinterval(interval)


def once(act: Callable[[], object]) -> Callable[[], object]:
    """Return what calls `act` the first time that it is called."""
    left = [act]
    return lambda: left.pop()() if left else None


def test_a_signal_handler_may_change_the_state_while_json_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs in the thread that encodes, so it comes in the middle without any other thread."""
    monkeypatch.setattr(snapshots, "other_threads_running", lambda: False)
    state: dict[str, Any] = {"a": {str(n): 0.5 for n in range(10)}}
    handler = once(lambda: state["a"].update(new=1))
    sys.setprofile(lambda _, __, called: handler() if called is math.isfinite else None)
    try:
        payload = resolve("json").encode(state)
    finally:
        sys.setprofile(None)
    assert resolve("json").decode(payload) == state
    assert state["a"]["new"] == 1


def test_a_signal_handler_may_change_the_state_while_a_custom_format_encodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An encoder written in Python may be interrupted between any two of its lines."""
    monkeypatch.setattr(snapshots, "other_threads_running", lambda: False)
    state: dict[str, Any] = {"a": {str(n): 0.5 for n in range(10)}}
    handler = once(lambda: state["a"].update(new=1))

    def dumps(given: dict[str, Any]) -> str:
        return repr({key: {k: (v, handler())[0] for k, v in given[key].items()} for key in given})

    format = resolve(namespace(dumps=dumps, loads=eval))
    assert format.decode(format.encode(state)) == state
    assert state["a"]["new"] == 1


@pytest.mark.parametrize("are_there", [True, False])
def test_a_snapshot_is_taken_only_beside_other_threads(
    are_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of one thread does not pay for copies; the outermost dict is always a copy."""
    monkeypatch.setattr(snapshots, "other_threads_running", lambda: are_there)
    given: list[dict[str, Any]] = []

    def dumps(state: dict[str, Any]) -> str:
        given.append(state)
        return repr(state)

    state: dict[str, Any] = {"a": {"b": [1]}}
    format = resolve(namespace(dumps=dumps, loads=eval))
    format.encode(state)
    assert given[-1] == state
    assert given[-1] is not state
    assert (given[-1]["a"] is state["a"]) != are_there


@pytest.mark.parametrize("are_there", [True, False])
def test_a_state_at_fault_is_refused_beside_threads_and_without(
    are_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of the item does not depend on other threads."""
    monkeypatch.setattr(snapshots, "other_threads_running", lambda: are_there)
    for format in (resolve("json"), resolve("literal"), resolve(marshal)):
        assert refusal_of(format, {"a": [1, {"b": Opaque()}]}).item == "state['a'][1]['b']"


def test_a_thread_counts_whoever_started_it() -> None:
    """`threading` does not list a thread that was started below it, which may change dicts, too."""
    program = """
import _thread, threading
from redundict.formats.snapshots import other_threads_running
print(other_threads_running())
held = _thread.allocate_lock()
held.acquire()
_thread.start_new_thread(held.acquire, ())
_thread.start_new_thread(lambda: held.acquire(), ())
while not other_threads_running():
    pass
print(threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "1"]
