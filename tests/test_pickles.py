"""Pickle: what pickles comes back; what does not is refused with the path of the item."""

from __future__ import annotations

import pickle
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from redundict.errors import FormatError, UnstorableError

from .formats import (
    PICKLE,
    Colour,
    Point,
    State,
    Unpicklable,
    comes_back,
    refusal_of,
)


def test_pickle_holds_what_json_cannot() -> None:
    """Tuples, sets, keys of any kind, times, objects, and objects that contain themselves."""
    comes_back(PICKLE, {(1, 2): {3}, None: datetime.now(UTC), "p": Point(1, 2), "c": Colour.RED})
    cycle: State = {}
    cycle["self"] = [cycle]
    back = PICKLE.decode(PICKLE.encode(cycle))
    assert back["self"][0]["self"] is back["self"]


@pytest.mark.parametrize(
    ("state", "item"),
    [
        ({"f": lambda: 0}, "state['f']"),
        ({"a": [1, (2, {"f": lambda: 0})]}, "state['a'][1][1]['f']"),
        ({"a": {1: Unpicklable()}}, "state['a'][1]"),
        ({"a": [1], "m": sys}, "state['m']"),
    ],
    ids=["function", "nested", "raises", "module"],
)
def test_what_cannot_be_pickled_is_refused_by_its_path(state: State, item: str) -> None:
    """Whatever a __reduce__ raises, the caller gets one type of error."""
    assert refusal_of(PICKLE, state).item == item


class Fails:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\x80\x05",
        pickle.dumps({"a": 1})[:-1],
        pickle.dumps([1]),
        pickle.dumps(None),
        pickle.dumps({"a": Fails()}),
        b"cno.such.module\nname\n.",
        b"\x80\xff.",
    ],
    ids=repr,
)
def test_what_is_not_a_pickled_dict_is_a_format_error(payload: bytes) -> None:
    """Whatever unpickling raises, the caller gets one type of error."""
    with pytest.raises(FormatError, match=r"^not readable as pickle: ") as caught:
        PICKLE.decode(payload)
    assert not isinstance(caught.value, UnstorableError)


class Sealed(dict[str, int]):
    """A dict that cannot be pickled, though all of its items can."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("sealed")


def test_a_container_that_refuses_itself_is_named() -> None:
    """The path leads to the container and not to the whole state."""
    error = refusal_of(PICKLE, {"a": [Sealed(b=1)]})
    assert error.item == "state['a'][0]"
    assert "sealed" in error.what
