"""Custom formats: what they would change is refused with the path of the item."""

from __future__ import annotations

import collections
import json
import marshal
import math
import pickle
import types
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from redundict.errors import FormatError
from redundict.formats.resolve import Format, resolve

from .formats import (
    MARSHAL,
    OBJECTS,
    Colour,
    Opaque,
    State,
    Word,
    comes_back,
    namespace,
    refusal_of,
)


@pytest.mark.parametrize("kind", OBJECTS)
def test_any_object_with_a_pair_of_functions_is_a_format(kind: str) -> None:
    """`dumps` and `loads`, or `dump` and `load`; text or bytes: what it does is found out."""
    format = resolve(OBJECTS[kind])
    payload = format.encode({"ö": [1, None, {"x": 1.5}]})
    assert isinstance(payload, bytes)
    assert format.decode(payload) == {"ö": [1, None, {"x": 1.5}]}
    with pytest.raises(FormatError):
        format.decode(b"\xff\xff")


def test_dumps_is_preferred_to_dump() -> None:
    """An object that has both pairs is used through the faster one."""
    format = resolve(
        namespace(dumps=marshal.dumps, loads=marshal.loads, dump=json.dump, load=json.load)
    )
    assert marshal.loads(format.encode({"a": 1})) == {"a": 1}


def test_a_format_is_handed_a_plain_dict() -> None:
    """A format that knows no subclasses of dict can hold a store all the same."""
    state = collections.OrderedDict(a=1)
    with pytest.raises(ValueError):
        marshal.dumps(state)
    comes_back(MARSHAL, state)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (marshal, "marshal"),
        (OBJECTS["text"], "my.format"),
        (namespace(dump=json.dump, load=json.load), "my.format"),
        (types.SimpleNamespace(dumps=json.dumps, loads=json.loads), "SimpleNamespace"),
        (types.SimpleNamespace(__name__="my format=ö", dumps=str, loads=eval), "my_format__"),
        (types.SimpleNamespace(__name__="x" * 99, dumps=str, loads=eval), "x" * 64),
    ],
)
def test_an_object_has_a_name_that_fits_a_trailer(target: object, name: str) -> None:
    """It is the module's or the class's; what a trailer cannot hold is replaced."""
    assert resolve(target).name == name


def test_an_object_without_a_name_is_refused() -> None:
    """A trailer says which format it is in."""
    with pytest.raises(ValueError, match="'' cannot name a format"):
        resolve(types.SimpleNamespace(__name__="", dumps=str, loads=eval))


def forgetful(change: Callable[[State], Any]) -> Format:
    """Return a format that gives something else back than it was given."""
    return resolve(
        namespace(dumps=pickle.dumps, loads=lambda payload: change(pickle.loads(payload)))
    )


@pytest.mark.parametrize(
    ("state", "change", "item", "why"),
    [
        (
            {"a": {"b": [1, (2, 3)]}},
            lambda _: {"a": {"b": [1, [2, 3]]}},
            "state['a']['b'][1]",
            "(2, 3) (tuple) comes back as [2, 3] (list)",
        ),
        ({"a": {1: 2}}, lambda _: {"a": {"1": 2}}, "state['a']", "key 1 (int) does not come back"),
        ({"a": 1}, lambda _: {"a": 1, "b": 2}, "state", "comes back with more keys"),
        (
            {"a": {"b": {}}},
            lambda _: {"a": {"b": {1: 1}}},
            "state['a']['b']",
            "comes back with more",
        ),
        ({"a": [1, 2]}, lambda _: {"a": [1]}, "state['a']", "comes back with 1 items"),
        ({"a": [1, 2]}, lambda _: {"a": [1, 2, 3]}, "state['a']", "comes back with 3 items"),
        ({"a": [1, 2]}, lambda _: {"a": [1, 3]}, "state['a'][1]", "2 (int) comes back as 3 (int)"),
        ({"a": math.nan}, lambda _: {"a": None}, "state['a']", "nan (float) comes back as None"),
        ({"a": math.nan}, lambda _: {"a": 0.0}, "state['a']", "nan (float) comes back as 0.0"),
        ({"a": {1}}, lambda _: {"a": {1, 2}}, "state['a']", "{1} (set) comes back as {1, 2} (set)"),
        ({"a": "x"}, lambda _: {}, "state", "key 'a' (str) does not come back"),
        ({"a": {}}, lambda _: {"a": []}, "state['a']", "{} (dict) comes back as [] (list)"),
        ({"a": Opaque()}, lambda _: {"a": None}, "state['a']", "<"),
    ],
)
def test_what_a_format_does_not_give_back_equal_is_refused_by_its_path(
    state: State, change: Callable[[State], Any], item: str, why: str
) -> None:
    """What a foreign format promises is not known, so it is tried before anything is written."""
    error = refusal_of(forgetful(change), state)
    assert error.item == item
    assert error.what.startswith(f"{item}: {why}")


def test_what_a_format_gives_back_must_be_a_dict() -> None:
    """A format that returns something else altogether is refused too."""
    assert "it holds a list, not a dict" in refusal_of(forgetful(list), {"a": 1}).what
    with pytest.raises(FormatError, match="it holds a list, not a dict"):
        forgetful(list).decode(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    "value", [math.nan, [math.nan, 1.0], {"x": (math.nan,)}, Opaque(), {Colour.RED}]
)
def test_what_equals_nothing_but_came_back_alike_is_taken(value: object) -> None:
    """NaN is unequal to itself, and an object without equality to its copy: both are stored."""
    format = forgetful(lambda state: state)
    assert repr(format.decode(format.encode({"a": value})))


@pytest.mark.parametrize(
    ("state", "item"),
    [
        ({"a": [1, {"b": Opaque()}]}, "state['a'][1]['b']"),
        ({"a": {"b": 1}, "c": Opaque()}, "state['c']"),
    ],
)
def test_what_an_encoder_refuses_is_refused_by_its_path(state: State, item: str) -> None:
    """Whatever a foreign encoder raises, the caller gets one type of error, with the item."""
    assert refusal_of(MARSHAL, state).item == item


def test_an_encoder_that_refuses_everything_names_the_state() -> None:
    """An error without an offending item is one of the whole state."""

    def dumps(state: State) -> str:
        if state:
            raise OSError("out of paper")
        return ""

    format = resolve(namespace(dumps=dumps, loads=eval))
    error = refusal_of(format, {"a": [1]})
    assert error.item == "state['a'][0]"
    assert "1 (int): out of paper" in error.what
    assert refusal_of(format, {"a": []}).item == "state"


def test_orjson_is_a_format_as_it_is() -> None:
    """The module goes in unchanged, and what it would change is refused."""
    orjson = pytest.importorskip("orjson")
    format = resolve(orjson)
    assert format.name == "orjson"
    comes_back(format, {"ö": [1, 2.5, None, {"x": True}]})
    for value in ((1, 2), math.nan, datetime(2026, 1, 1, tzinfo=UTC), {1: 2}, 1 << 70):
        refusal_of(format, {"a": value})


@pytest.mark.parametrize(
    ("state", "back", "item", "why"),
    [
        (
            {"a": Colour.RED},
            {"a": 1},
            "state['a']",
            "<Colour.RED: 1> (Colour) comes back as a plain int",
        ),
        ({"a": [True]}, {"a": [1]}, "state['a'][0]", "True (bool) comes back as a plain int"),
        ({"a": 1.0}, {"a": 1}, "state['a']", "1.0 (float) comes back as 1 (int)"),
        (
            {"a": {"b": collections.OrderedDict(c=1)}},
            {"a": {"b": {"c": 1}}},
            "state['a']['b']",
            f"{collections.OrderedDict(c=1)!r} (OrderedDict) comes back as a plain dict",
        ),
        (
            {"a": {Word.YES: 1}},
            {"a": {"yes": 1}},
            "state['a']",
            "key <Word.YES: 'yes'> (Word) comes back as 'yes' (str)",
        ),
    ],
    ids=["enum", "bool", "float", "dict", "key"],
)
def test_what_comes_back_equal_and_of_another_type_is_refused(
    state: State, back: State, item: str, why: str
) -> None:
    """What you load is what you saved: the same types, not only equal values."""
    assert state == back
    error = refusal_of(forgetful(lambda _: back), state)
    assert error.item == item
    assert error.what.startswith(f"{item}: {why}")


def test_a_caller_that_wants_to_be_told_of_subclasses_may_store_them() -> None:
    """The format stores what it stores; the places are told once that is known to be equal."""
    told: list[tuple[str, object]] = []
    format = resolve(OBJECTS["text"], lambda item, value: told.append((item, value)))
    inner = collections.OrderedDict(b=[Colour.RED])
    assert format.decode(format.encode({"a": inner, Word.YES: 1})) == {"a": inner, "yes": 1}
    assert told == [
        ("state", Word.YES),
        ("state['a']", inner),
        ("state['a']['b'][0]", Colour.RED),
    ]
    told.clear()
    assert refusal_of(format, {"a": inner, "b": (1,)}).item == "state['b']"
    assert told == []
