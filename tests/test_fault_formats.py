"""Hazard: a signal handler raises, or the memory ends, while a format encodes or decodes."""

from __future__ import annotations

import csv
import marshal
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from redundict.errors import FormatError, UnstorableError
from redundict.formats.resolve import Format, read_plain, resolve

from . import inside
from .formats import OBJECTS, Colour, Opaque, Word, namespace


def told(*_: object) -> None:
    """Accept every subclass."""


FORMATS: dict[str, Format] = {
    "json": resolve("json"),
    "json told": resolve("json", told),
    "csv": resolve("csv"),
    "csv told": resolve("csv", told),
    "literal": resolve("literal"),
    "literal told": resolve("literal", told),
    "pickle": resolve("pickle"),
    "marshal": resolve(marshal),
    "marshal told": resolve(marshal, told),
    "text": resolve(OBJECTS["text"]),
    "text told": resolve(OBJECTS["text"], told),
    "pickles": resolve(namespace(dumps=pickle.dumps, loads=pickle.loads)),
}
#: What some `except` of the formats catches, and what none of them expects.
RAISED: dict[str, Callable[[], Exception]] = {
    "ValueError": ValueError,
    "TypeError": TypeError,
    "RuntimeError": RuntimeError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "UnicodeEncodeError": lambda: UnicodeEncodeError("utf-8", "x", 0, 1, "of the handler"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "of the handler"),
    "csv.Error": csv.Error,
    "SyntaxError": SyntaxError,
    "FormatError": lambda: FormatError("of the handler"),
    "UnstorableError": lambda: UnstorableError("of the handler"),
    "LookupError": LookupError,
}
#: Two of them by default, and all of them among the enumerations.
EACH_RAISED = [
    pytest.param(name, marks=[pytest.mark.exhaustive] * (name not in ("TypeError", "MemoryError")))
    for name in RAISED
]
#: States that take each path of the encoders: stored, converted, refused.
STATES: dict[str, dict[Any, Any]] = {
    "plain": {"a": "b"},
    "subclasses": {Word.YES: Word.YES, "n": [Colour.RED, {"x": Word.YES}]},
    "texts": {Word.YES: Word.YES},
    "refused": {"a": {"b": [1, (2, Opaque())]}},
    "surrogates": {"a": "\ud83d\ude00"},
    "long": {"a": 1 << 70, "b": 10**5000},
    "sets": {"s": {1, (2, 3)}, "c": 1 + 2j, "b": b"x", (1, Word.YES): {Colour.RED}},
}
PAYLOADS = [b'{"a": [1, "b"]}', b"a,b\r\n", b"{'a': (1,)}", b"\xff", b"", b"[1]", b"{" * 300]


@contextmanager
def handler_raises_at_a_new_line(done: set[object], error: Exception) -> Iterator[None]:
    """Let a signal handler raise before the first line of the formats that is not in `done`."""

    def handler(*_: object) -> None:
        raise error

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "/redundict/formats/" not in frame.f_code.co_filename:
            return None
        line = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and line not in done:
            done.add(line)
            sys.settrace(None)
            signal.raise_signal(signal.SIGUSR1)
        return trace

    before = signal.signal(signal.SIGUSR1, handler)
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
        signal.signal(signal.SIGUSR1, before)


def lines_from_which_it_reaches_the_caller(
    act: Callable[[], object], make: Callable[[], Exception]
) -> int:
    """Assert that what a handler raises at any line is what a call raises; return the lines."""
    done: set[object] = set()
    while True:
        error, before, raised = make(), len(done), None
        try:
            with handler_raises_at_a_new_line(done, error):
                act()
        except Exception as caught:  # noqa: BLE001 - the test looks at what it is
            raised = caught
        if len(done) == before:
            return before
        assert raised is error, sorted(map(str, done))


@pytest.mark.parametrize("raised", EACH_RAISED)
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_handler_raises_while_a_state_is_encoded_reaches_the_caller(
    monkeypatch: pytest.MonkeyPatch, name: str, raised: str
) -> None:
    """At every line, whatever it is: it is never taken for a fault of the state."""
    inside.alone(monkeypatch)
    for state in STATES.values():
        act = lambda state=state: FORMATS[name].encode(state)
        assert lines_from_which_it_reaches_the_caller(act, RAISED[raised]) > 3


@pytest.mark.parametrize("raised", EACH_RAISED)
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_handler_raises_while_a_payload_is_decoded_reaches_the_caller(
    name: str, raised: str
) -> None:
    """At every line, whatever it is: it is never taken for a fault of the payload."""
    for payload in PAYLOADS:
        act = lambda payload=payload: FORMATS[name].decode(payload)
        assert lines_from_which_it_reaches_the_caller(act, RAISED[raised]) > 1
        act = lambda payload=payload: read_plain(payload, FORMATS["literal"])
        assert lines_from_which_it_reaches_the_caller(act, RAISED[raised]) > 1


@pytest.mark.parametrize("raised", EACH_RAISED)
def test_what_a_handler_raises_while_a_format_object_is_looked_at_reaches_the_caller(
    raised: str,
) -> None:
    """To find out whether it writes text, its `dump` is tried, and a `TypeError` would say so."""
    for kind in ("text file", "binary file"):
        act = lambda kind=kind: resolve(OBJECTS[kind])
        assert lines_from_which_it_reaches_the_caller(act, RAISED[raised]) > 3


class Raises:
    """Raises in one of its methods, by itself or in a signal handler."""

    def __init__(self, method: str, act: Callable[[], object]) -> None:
        self.method, self.act = method, act

    def _in(self, method: str) -> None:
        if self.method == method:
            self.act()

    def __repr__(self) -> str:
        self._in("repr")
        return "Raises"

    def __eq__(self, other: object) -> bool:
        self._in("eq")
        return type(other) is Raises

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        self._in("reduce")
        return Raises, ("", (lambda: None) if self.method == "repr" else print)


def signalled(error: Exception) -> Callable[[], None]:
    """Return what lets a signal handler raise an error."""

    def handler(*_: object) -> None:
        raise error

    def act() -> None:
        before = signal.signal(signal.SIGUSR1, handler)
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)  # not reached: the handler has to stay for a while

    return act


@pytest.fixture
def handlers_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("handlers_restored")
@pytest.mark.parametrize("raised", EACH_RAISED)
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "repr") for name in FORMATS if "text" not in name and name != "pickles"),
        ("pickle", "reduce"),
        ("pickles", "reduce"),
        ("pickles", "eq"),
    ],
)
def test_what_a_handler_raises_in_a_method_of_an_item_reaches_the_caller(
    name: str, method: str, raised: str
) -> None:
    """An item's methods run while it is encoded, compared or shown in a refusal."""
    error = RAISED[raised]()
    item = Raises(method, signalled(error))
    with pytest.raises(type(error)) as caught:
        FORMATS[name].encode({"a": [1, item]})
    assert caught.value is error


@pytest.mark.parametrize("name", ["pickle", "pickles"])
def test_a_lack_of_memory_goes_to_the_caller(name: str) -> None:
    """It says nothing about the state, so it is no refusal."""

    def act() -> None:
        raise MemoryError("none left")

    with pytest.raises(MemoryError, match="none left"):
        FORMATS[name].encode({"a": Raises("reduce", act)})


@pytest.mark.parametrize("name", ["pickle", "pickles"])
@pytest.mark.parametrize("error", [OSError("away"), RecursionError("deep"), KeyError("key")])
def test_what_an_item_raises_by_itself_is_a_refusal(name: str, error: Exception) -> None:
    """Without a signal handler, the item is at fault, and the error names it."""

    def act() -> None:
        raise error

    with pytest.raises(UnstorableError) as caught:
        FORMATS[name].encode({"a": [Raises("reduce", act)]})
    assert caught.value.item == "state['a'][0]"
