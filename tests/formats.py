"""States and formats that the tests of the formats have in common."""

from __future__ import annotations

import enum
import json
import marshal
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from redundict.errors import UnstorableError
from redundict.formats.resolve import Format, resolve

State = dict[Any, Any]
JSON, CSV, LITERAL, PICKLE, MARSHAL = map(resolve, ("json", "csv", "literal", "pickle", marshal))


class Colour(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


class Opaque:
    """Defines no equality."""


class Unpicklable:
    def __reduce__(self) -> str:
        raise KeyError("not this one")


class Mute(Unpicklable):
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(depth: int) -> State:
    """Return a state with a list in a list in a list."""
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return {"deep": inner}


def refusal_of(format: Format, state: State) -> UnstorableError:
    """Return the error with which a format refuses a state."""
    with pytest.raises(UnstorableError) as caught:
        format.encode(state)
    error = caught.value
    assert isinstance(error, TypeError)
    assert isinstance(error, ValueError)
    assert error.what.endswith(f": not storable as {format.name}")
    assert error.safe == "nothing was written; the last commit stands"
    return error


def comes_back(format: Format, state: State) -> State:
    """Assert that a format gives a state back equal, and return what it gave."""
    back = format.decode(format.encode(state))
    assert back == state
    assert type(back) is dict
    return back


def in_itself(kind: str) -> State:
    state: State = {"a": {"b": []}}
    state["a"]["b"].append({"dict": state["a"], "list": state["a"]["b"], "state": state}[kind])
    return state


def text_dumps(state: State) -> str:
    return json.dumps(state)


def same(one: Any, other: Any) -> bool:
    """Tell whether two states are equal, types, the order of keys and the sign of zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, complex):
        return same((one.real, one.imag), (other.real, other.imag))
    return repr(one) == repr(other)


def namespace(**functions: Callable[..., Any]) -> types.SimpleNamespace:
    return types.SimpleNamespace(__name__="my.format", **functions)


OBJECTS = {
    "text": namespace(dumps=text_dumps, loads=json.loads),
    "bytes": namespace(dumps=lambda state: json.dumps(state).encode(), loads=json.loads),
    "bytearray": namespace(
        dumps=lambda state: bytearray(marshal.dumps(state)), loads=marshal.loads
    ),
    "text file": namespace(dump=json.dump, load=json.load),
    "binary file": namespace(dump=marshal.dump, load=marshal.load),
    "a module": marshal,
}
