"""JSON: a state comes back as it was, or is refused with the path of the item."""

from __future__ import annotations

import collections
import decimal
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redundict.errors import FormatError, UnstorableError
from redundict.formats.resolve import resolve

from .formats import (
    JSON,
    Colour,
    Point,
    State,
    Word,
    comes_back,
    in_itself,
    nested,
    refusal_of,
)

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates included


PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for child in chain(value, value.values() if isinstance(value, dict) else ()):
            yield from strings_in(child)


def json_states(text: st.SearchStrategy[str]) -> st.SearchStrategy[State]:
    def inside(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(children) | st.dictionaries(text, children)

    return st.dictionaries(text, st.recursive(LEAVES | text, inside, max_leaves=8))


@given(json_states(st.text()))
@example({"": {"": []}, "a": [-0.0, 0, False, "", None, 1e308, 5e-324, 1 << 64]})
def test_any_plain_state_comes_back_from_json_to_the_letter(state: State) -> None:
    """Types, order, signs of zero: `repr` cannot tell the two apart."""
    assert repr(comes_back(JSON, state)) == repr(state)


@given(json_states(ANY_TEXT))
@example({"\ud800": "\udc00"})
@example({"\ud83d\U0001f600": "\U0001f600\ude00"})
@example({"a": "\udc00\ud800"})
def test_any_text_comes_back_from_json_or_is_refused(state: State) -> None:
    """Lone surrogates have no UTF-8; they come back all the same, or are not taken at all."""
    text = repr(state)
    if any(PAIR.search(piece) for piece in strings_in(state)):
        assert "two surrogates that would come back as one" in refusal_of(JSON, state).what
    else:
        assert repr(comes_back(JSON, state)) == text


def test_json_is_compact_utf_8_in_the_order_of_the_dict() -> None:
    """A payload can be read by a person, and by anything that reads JSON."""
    assert JSON.encode({"ö": [1, None, True], "a": {"b": 1.5}}) == (
        '{"ö":[1,null,true],"a":{"b":1.5}}'.encode()
    )
    assert JSON.encode({"\ud800": "ö"}) == b'{"\\ud800":"\\u00f6"}'


@pytest.mark.parametrize(
    ("state", "item", "why"),
    [
        ({1: "a"}, "state", "key 1 (int) would come back as a str"),
        ({None: "a"}, "state", "key None (NoneType) would come back as a str"),
        ({True: "a"}, "state", "key True (bool) would come back as a str"),
        ({1.5: "a"}, "state", "key 1.5 (float) would come back as a str"),
        ({(1, 2): "a"}, "state", "key (1, 2) (tuple) would come back as a str"),
        ({"a": {"b": [0, {2: 1}]}}, "state['a']['b'][1]", "key 2 (int) would come back as a str"),
        ({"a": (1, 2)}, "state['a']", "(1, 2) (tuple) would come back as a list"),
        ({"a": [[], ()]}, "state['a'][1]", "() (tuple) would come back as a list"),
        ({"a": Point(1, 2)}, "state['a']", "Point(x=1, y=2) (Point) would come back as a list"),
        ({"a": {1}}, "state['a']", "{1} (set) has no JSON"),
        ({"a": frozenset()}, "state['a']", "frozenset() (frozenset) has no JSON"),
        ({"a": b"x"}, "state['a']", "b'x' (bytes) has no JSON"),
        ({"a": 1j}, "state['a']", "1j (complex) has no JSON"),
        ({"a": decimal.Decimal(1)}, "state['a']", "Decimal('1') (Decimal) has no JSON"),
        ({"a": math.nan}, "state['a']", "nan (float) has no JSON"),
        ({"a": [1, math.inf]}, "state['a'][1]", "inf (float) has no JSON"),
        ({"a": {"b": -math.inf}}, "state['a']['b']", "-inf (float) has no JSON"),
        ({"a": 1, "b": {2}, "c": (3,)}, "state['b']", "{2} (set) has no JSON"),
        ({"it's": {"a": [{2}]}}, "state[\"it's\"]['a'][0]", "{2} (set) has no JSON"),
        (collections.OrderedDict(a=[{1}]), "state['a'][0]", "{1} (set) has no JSON"),
        (
            {"a": "\ud83d\ude00"},
            "state['a']",
            r"'\ud83d\ude00' (str) holds two surrogates that would come back as one character",
        ),
        (
            {"a": [{"\ud83d\ude00": 1}]},
            "state['a'][0]",
            r"'\ud83d\ude00' (str) holds two surrogates that would come back as one character",
        ),
    ],
    ids=repr,
)
def test_what_json_would_change_is_refused_by_its_path(state: State, item: str, why: str) -> None:
    """The error names the first offending item as one would write it in Python."""
    error = refusal_of(JSON, state)
    assert error.item == item
    assert error.what == f"{item}: {why}: not storable as json"


def test_a_long_value_is_shown_in_short() -> None:
    """An error message does not print a whole state."""
    assert len(refusal_of(JSON, {"a": b"x" * 100_000}).what) < 200


class Loud(str):
    """Unequal to any str."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return type(other) is Loud and str.__eq__(self, other)


class Folded(str):
    """A key that differs from "a" and stands for it all the same."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


class Half(float):
    """A float, but not exactly."""


class Items(list[Any]):
    """A list, but not exactly."""


#: A value of a subclass, the plain value that it is equal to, and the type of that.
SUBCLASSES = [
    (Colour.RED, 1, "int"),
    (Word.YES, "yes", "str"),
    (Half(0.5), 0.5, "float"),
    (Items([1]), [1], "list"),
    (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}, "dict"),
    (collections.defaultdict(list, x=[1]), {"x": [1]}, "dict"),
    (collections.Counter("aab"), {"a": 2, "b": 1}, "dict"),
]


@pytest.mark.parametrize(("value", "plain", "kind"), SUBCLASSES, ids=repr)
def test_a_subclass_is_refused_by_its_path(value: object, plain: object, kind: str) -> None:
    """What you load is what you saved: JSON would lose the subclass, and the error says so."""
    error = refusal_of(JSON, {"a": [0, {"b": value}]})
    assert error.item == "state['a'][1]['b']"
    assert error.what.startswith(f"state['a'][1]['b']: {value!r} ({type(value).__name__})")
    assert error.what.endswith(f" would come back as a plain {kind}: not storable as json")
    assert str(error.action).startswith(f"convert that item to a plain {kind}, or open the store")


def test_a_key_of_a_subclass_is_refused_by_the_path_of_its_dict() -> None:
    """A key would lose its type, too."""
    error = refusal_of(JSON, {"a": [{Word.YES: 1}]})
    assert error.item == "state['a'][0]"
    assert "key <Word.YES: 'yes'> (Word) would come back as a str" in error.what
    assert str(error.action).startswith("convert that key to a str, or open the store")


def test_the_state_itself_may_be_of_a_subclass() -> None:
    """A `RedunDict` is one, and it is loaded into one."""
    comes_back(JSON, collections.OrderedDict(a=[1]))


class Told:
    """Formats that accept subclasses, and the places that they told."""

    def __init__(self, name: str = "json") -> None:
        self.places: list[tuple[str, object]] = []
        self.format = resolve(name, lambda item, value: self.places.append((item, value)))


@pytest.mark.parametrize(("value", "plain", "kind"), SUBCLASSES, ids=repr)
def test_a_subclass_is_accepted_if_its_caller_wants_to_be_told(
    value: object, plain: object, kind: str
) -> None:
    """The plain value is stored, the place is told, and the state stays as it is."""
    told, state = Told(), {"a": [0, {"b": value}], "c": 1}
    assert told.format.encode(state) == JSON.encode({"a": [0, {"b": plain}], "c": 1})
    assert told.places == [("state['a'][1]['b']", value)]
    assert state["a"][1]["b"] is value  # type: ignore[index]


def test_of_plain_values_nobody_is_told() -> None:
    """A format that accepts subclasses stores everything else as ever."""
    told, state = Told(), {"a": [1, None, {"b": [True, 0.5, "x"]}]}
    assert told.format.encode(state) == JSON.encode(state)
    assert told.places == []


def test_every_place_of_a_subclass_is_told() -> None:
    """Keys are told by the path of their dict; what is in a subclass is looked at, too."""
    inner = collections.OrderedDict({"x": [Colour.RED], Word.YES: (1).bit_length()})
    told = Told()
    payload = told.format.encode({"a": inner, Word.YES: [collections.OrderedDict()]})
    assert JSON.decode(payload) == {"a": {"x": [1], "yes": 1}, "yes": [{}]}
    assert sorted(item for item, _ in told.places) == [
        "state",
        "state['a']",
        "state['a']",
        "state['a']['x'][0]",
        "state['yes'][0]",
    ]


@pytest.mark.parametrize(
    ("state", "item"),
    [
        ({"a": Loud("x")}, "state['a']"),
        ({"a": [{Loud("x"): 1}]}, "state['a'][0]"),
        ({"a": Half("nan")}, "state['a']"),
        ({"a": Half("inf")}, "state['a']"),
        ({"a": Point(1, 2)}, "state['a']"),
        ({"a": collections.OrderedDict(b=(1,))}, "state['a']['b']"),
        ({"a": collections.OrderedDict({1: 2})}, "state['a']"),
        ({"a": [Colour.RED, {2}]}, "state['a'][1]"),
        ({"a": {"a": 1, Folded("a"): 2}}, "state['a']"),
        ({"a": {Folded("a"): 1, "a": 2}}, "state['a']"),
    ],
    ids=repr,
)
def test_what_has_no_equal_plain_value_is_never_accepted(state: State, item: str) -> None:
    """To accept subclasses is not to accept what would come back changed."""
    assert refusal_of(Told().format, state).item == item


def test_a_subclass_that_contains_itself_or_is_too_deep_is_refused() -> None:
    """To accept subclasses does not make a walk endless."""
    loop: State = collections.OrderedDict()
    loop["x"] = [loop, loop]
    deep: Any = collections.OrderedDict()
    for _ in range(2000):
        deep = collections.OrderedDict(x=deep)
    for value in (loop, deep):
        refusal_of(Told().format, {"a": value, "b": Colour.RED})


@pytest.mark.parametrize("value", [True, None, 0.5, 7, "x", [True], {"a": None}], ids=repr)
def test_beside_a_subclass_plain_values_stay_what_they_are(value: object) -> None:
    """A bool is an int to Python, and no subclass of one to JSON."""
    told, state = Told(), {"a": value, "b": [Colour.RED, value]}
    assert repr(JSON.decode(told.format.encode(state))) == repr({"a": value, "b": [1, value]})
    assert told.places == [("state['b'][0]", Colour.RED)]


def test_a_type_that_lies_or_has_no_hash_is_refused_beside_a_subclass() -> None:
    """A metaclass may make a type unhashable, or equal to str."""

    class Odd(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return other is str

    value = Odd("Value", (), {})()
    assert refusal_of(Told().format, {"a": Colour.RED, "b": [value]}).item == "state['b'][0]"
    assert refusal_of(Told().format, {"a": Colour.RED, "b": {value: 1}}).item == "state['b']"


def test_whatever_the_told_one_raises_ends_the_encode() -> None:
    """A warning may be turned into an error; it is not lost."""

    def refuse(item: str, _: object) -> None:
        raise UserWarning(item)

    with pytest.raises(UserWarning, match=r"state\['a'\]"):
        resolve("json", refuse).encode({"a": Colour.RED})


def test_one_list_in_two_places_is_no_cycle() -> None:
    """An object may stand in a state more than once."""
    shared = [{"a": 1}]
    comes_back(JSON, {"x": shared, "y": [shared, shared]})


@pytest.mark.parametrize(
    ("kind", "item", "again"),
    [
        ("dict", "state['a']['b'][0]", "state['a']"),
        ("list", "state['a']['b'][0]", "state['a']['b']"),
        ("state", "state['a']['b'][0]", "state"),
    ],
)
def test_a_cycle_is_named_where_it_closes(kind: str, item: str, again: str) -> None:
    """The error says which container comes again, and where."""
    error = refusal_of(JSON, in_itself(kind))
    assert error.item == item
    assert error.what.startswith(f"{item}: is {again} again, which so contains itself")


def test_a_fault_before_a_cycle_is_named() -> None:
    """The first item at fault is named, whatever comes after it."""
    assert refusal_of(JSON, {"0": {1}, **in_itself("dict")}).item == "state['0']"


@contextmanager
def digits(limit: int) -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


def test_an_int_too_long_to_print_is_refused() -> None:
    """Python refuses to print an int of more digits than its limit; up to that, it is stored."""
    with digits(640):
        comes_back(JSON, {"a": -(10**640 - 1)})
        assert refusal_of(JSON, {"a": [0, 10**640]}).item == "state['a'][1]"


def from_below(frames: int, call: Callable[[], Any]) -> Any:
    """Return what a call returns that is made further down the stack."""
    return call() if frames == 0 else from_below(frames - 1, call)


def test_what_one_caller_stored_another_can_load() -> None:
    """What is stored from the top of a program loads where its stack is half full already."""
    low, high = 1, 100_000
    while low < high:  # the deepest state that is taken here
        middle = (low + high + 1) // 2
        try:
            JSON.encode(nested(middle))
        except UnstorableError:
            high = middle - 1
        else:
            low = middle
    payload = JSON.encode(nested(low))
    half = (sys.getrecursionlimit() - len(inspect.stack(0))) // 2
    assert from_below(half, lambda: JSON.decode(payload)) is not None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not readable as json: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1', "not readable as json: JSONDecodeError: "),
        (b'{"a": 1} x', "not readable as json: JSONDecodeError: Extra data: "),
        (b"\xff{}", "not readable as json: UnicodeDecodeError: "),
        (b"[1]", "not readable as json: it holds a list, not a dict"),
        (b"null", "not readable as json: it holds a NoneType, not a dict"),
        (
            b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
            "not readable as json: it is nested too deeply",
        ),
        (b'{"a":' + b"1" * 5000 + b"}", "not readable as json: ValueError: "),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_not_json_is_a_format_error(payload: bytes, reason: str) -> None:
    """The error says what is wrong with the payload."""
    with pytest.raises(FormatError) as caught:
        JSON.decode(payload)
    assert caught.value.what.startswith(reason)
