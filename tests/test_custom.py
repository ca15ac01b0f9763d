"""Custom formats: what they would change is refused with the path of the item."""

from __future__ import annotations

import array
import collections
import dataclasses
import functools
import json
import marshal
import math
import pickle
import random
import re
import types
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import redundict
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
        ({"a": {1}}, lambda _: {"a": {True}}, "state['a']", "its item 1 (int) comes back as True"),
        (
            {"a": {(1,)}},
            lambda _: {"a": {(1.0,)}},
            "state['a']",
            "its item (1,) (tuple) comes back",
        ),
        ({(1,): 1}, lambda _: {(True,): 1}, "state", "key (1,) (tuple) comes back as (True,) (tup"),
        ({"a": 0.0}, lambda _: {"a": -0.0}, "state['a']", "0.0 (float) comes back as -0.0 (float)"),
        ({"a": -0j}, lambda _: {"a": 0j}, "state['a']", "(-0-0j) (complex) comes back as 0j (com"),
        (
            {"a": frozenset({1})},
            lambda _: {"a": {1}},
            "state['a']",
            "frozenset({1}) (frozenset) co",
        ),
        (
            {"a": collections.deque([1, "x"])},
            lambda _: {"a": collections.deque([1.0, "x"])},
            "state['a']",
            "deque([1, 'x']) (deque) comes back as deque([1.0, 'x']) (deque)",
        ),
        (
            {"a": collections.deque([1], 3)},
            lambda _: {"a": collections.deque([1])},
            "state['a']",
            "deque([1], maxlen=3) (deque) comes back as deque([1]) (deque)",
        ),
        (
            {"a": array.array("i", [1])},
            lambda _: {"a": array.array("f", [1])},
            "state['a']",
            "array('i', [1]) (array) comes back as array('f', [1.0]) (array)",
        ),
        (
            {"a": datetime(2026, 1, 1, tzinfo=UTC)},
            lambda _: {"a": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))},
            "state['a']",
            "datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone",
        ),
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


class Model:
    """An object whose `==` answers with an array, as numpy's do."""

    def __init__(self, *weights: float, name: str = "m") -> None:
        self.weights, self.name = array.array("d", weights), name

    def __eq__(self, other: object) -> Any:
        return [one == two for one, two in zip(self.weights, vars(other)["weights"], strict=True)]

    __hash__ = None  # type: ignore[assignment] # as numpy's arrays


class Ambiguous(Model):
    """An object whose `==` answers with something that is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return Ambiguous()

    __hash__ = None  # type: ignore[assignment] # as numpy's arrays

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")


class Raising(Model):
    """An object whose `==` raises."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment] # as pandas' frames


class Opposed(Model):
    """An object that is equal to nothing, itself included, as pandas' NaT."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass
class Run:
    model: Any
    rate: Any = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


PICKLES = namespace(dumps=pickle.dumps, loads=pickle.loads)
ODDLY_EQUAL = [Model, Ambiguous, Raising, Opposed]


@pytest.mark.parametrize("kind", ODDLY_EQUAL)
def test_an_object_whose_equality_does_not_answer_is_stored(path: str, kind: type[Model]) -> None:
    """As with `format="pickle"`: at any depth, empty ones too, and in objects that hold it."""
    state = {"a": kind(1, 2), "b": [(kind(),)], "run": Run(kind(3)), "nan": kind(math.nan)}
    for format in ("pickle", PICKLES):
        with redundict.open(path, "n", format=format) as store:
            store.update(state)
        back = redundict.load(path, format=format)
        assert [type(back["a"]), type(back["b"][0][0]), type(back["run"].model)] == [kind] * 3
        assert list(back["a"].weights) == [1, 2]
        assert list(back["run"].model.weights) == [3]


@pytest.mark.parametrize("kind", ODDLY_EQUAL)
def test_an_object_whose_equality_does_not_answer_is_compared_by_its_parts(
    kind: type[Model],
) -> None:
    """A format that loses a part, or changes its type, is found out all the same."""
    for other, item in (
        (kind(1, 3), "state['a'].weights"),
        (kind(1), "state['a'].weights"),
        (kind(1, 2, name="n"), "state['a'].name"),
        (kind(1, 2, name=Word.YES), "state['a'].name"),
        (Run(1), "state['a']"),
    ):
        format = forgetful(lambda _, other=other: {"a": other})
        assert refusal_of(format, {"a": kind(1, 2)}).item == item
    lost = kind(1, 2)
    del lost.name
    error = refusal_of(forgetful(lambda _: {"a": lost}), {"a": kind(1, 2)})
    assert "its attribute name does not come back" in error.what


@pytest.mark.parametrize(
    ("given", "back", "item"),
    [
        (Run(1), Run(True), "state['a'].model"),
        (Run([1, (2,)]), Run([1, (2.0,)]), "state['a'].model[1][0]"),
        (Run({"x": {1}}), Run({"x": {1.0}}), "state['a'].model['x']"),
        (Slotted(1), Slotted(1.0), "state['a']"),
        (types.SimpleNamespace(x=1), types.SimpleNamespace(x=True), "state['a'].x"),
        (Slotted(Run(1)), Slotted(Run(Colour.RED)), "state['a']"),
        (functools.partial(int, 1), functools.partial(int, 2), "state['a']"),
    ],
    ids=repr,
)
def test_an_object_that_is_equal_is_looked_into(given: object, back: object, item: str) -> None:
    """What you load is what you saved: the same types inside objects, too."""
    error = refusal_of(forgetful(lambda _: {"a": back}), {"a": given})
    assert error.item == item
    comes_back_alike = resolve(PICKLES)
    comes_back_alike.decode(comes_back_alike.encode({"a": given, "b": [given]}))


def test_a_class_that_is_made_anew_is_another_one() -> None:
    """Its objects are no instances of the program's own class, and the error says so."""
    again = type("Node", (), {})
    error = refusal_of(forgetful(lambda _: {"a": again()}), {"a": Node()})
    assert "(Node) comes back as an object of another class Node" in error.what


class Node:
    """Refers to itself through others."""

    def __init__(self) -> None:
        self.children: list[Any] = []
        self.parent: Any = None


def test_objects_that_refer_to_each_other_are_compared_once() -> None:
    """The walk ends, and still finds what is changed."""
    root, child = Node(), Node()
    root.children.append(child)
    child.parent = root
    format = resolve(PICKLES)
    back = format.decode(format.encode({"a": root, "b": child}))
    assert back["a"].children[0].parent is back["a"]
    other = pickle.loads(pickle.dumps(root))
    other.children[0].parent = Node()
    error = refusal_of(forgetful(lambda _: {"a": other}), {"a": root})
    assert error.item == "state['a'].children[0].parent.children"


class Keeping(dict[str, int]):
    """A dict with an attribute."""

    note: Any = None


def test_the_attributes_of_a_container_are_compared() -> None:
    """A format may give the items back, and lose what the subclass adds."""
    given, back = Keeping(x=1), Keeping(x=1)
    given.note = 1
    assert given == back
    error = refusal_of(forgetful(lambda _: {"a": back}), {"a": given})
    assert "its attribute note does not come back" in error.what
    back.note = True
    assert refusal_of(forgetful(lambda _: {"a": back}), {"a": given}).item == "state['a'].note"


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        Decimal("nan"),
        [Decimal("1.50"), Fraction(1, 3), uuid.UUID(int=7), Path("a/b")],
        {"x": (datetime(2026, 1, 1, tzinfo=UTC), range(3), slice(1), bytearray(b"x"))},
        re.compile("x+", re.IGNORECASE),
        random.Random(7),
        collections.defaultdict(list, a=[1]),
        collections.deque([1, {2}], 5),
        functools.partial(int, base=2),
        [len, dict, ..., NotImplemented],
        [Run(math.nan), Run([1, {"x": math.nan}], Decimal("nan")), Slotted(complex(0, math.nan))],
        ValueError("x", 1),
        {Path("x"), frozenset({1, 2}), "y"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_pickle_gives_back_is_stored_by_an_object_that_pickles(value: object) -> None:
    """The comparison finds no fault with objects of the standard library."""
    format = resolve(PICKLES)
    assert type(format.decode(format.encode({"a": value}))["a"]) is type(value)


def as_lists(value: Any) -> Any:
    """Return what formats like YAML and msgpack make of tuples, at any depth."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("value", [(1,), [(1, 2)], {"x": {"y": ((),)}}, Run((1,))])
def test_a_tuple_that_comes_back_as_a_list_is_named(value: Any) -> None:
    """This is what formats without tuples do to them."""
    inside = Run(as_lists(value.model)) if isinstance(value, Run) else as_lists(value)
    error = refusal_of(forgetful(lambda _: {"a": inside}), {"a": value})
    assert "(tuple) comes back as [" in error.what


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


def test_what_a_decoder_refuses_is_refused_by_its_path() -> None:
    """What was encoded and cannot be read is not written, and the message is about the item."""

    def loads(payload: bytes) -> Any:
        if b"bad" in payload:
            raise KeyError("not this one")
        return pickle.loads(payload)

    error = refusal_of(resolve(namespace(dumps=pickle.dumps, loads=loads)), {"a": [1, "bad"]})
    assert error.item == "state['a'][1]"
    assert "not readable as my.format: KeyError: 'not this one': not storable" in error.what


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
