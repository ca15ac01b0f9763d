"""`serializers`: what goes in comes back equal, or is refused with the path of the item."""

from __future__ import annotations

import collections
import csv
import decimal
import enum
import inspect
import json
import marshal
import math
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redundict import errors
from redundict.errors import FormatError, UnstorableError
from redundict.formats import resolve as serializers

JSON, CSV, PICKLE, MARSHAL = map(serializers.resolve, ("json", "csv", "pickle", marshal))
State = dict[Any, Any]


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


def refusal_of(format: serializers.Format, state: State) -> UnstorableError:
    """Return the error with which a format refuses a state."""
    with pytest.raises(UnstorableError) as caught:
        format.encode(state)
    error = caught.value
    assert isinstance(error, TypeError)
    assert isinstance(error, ValueError)
    assert error.reason.endswith(f": not storable as {format.name}")
    assert error.safe == "nothing was written; the last commit stands"
    return error


def comes_back(format: serializers.Format, state: State) -> State:
    """Assert that a format gives a state back equal, and return what it gave."""
    back = format.decode(format.encode(state))
    assert back == state
    assert type(back) is dict
    return back


# -- json

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
        assert "two surrogates that would come back as one" in refusal_of(JSON, state).reason
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
    assert error.reason == f"{item}: {why}: not storable as json"


def test_a_long_value_is_shown_in_short() -> None:
    """An error message does not print a whole state."""
    assert len(refusal_of(JSON, {"a": b"x" * 100_000}).reason) < 200


@pytest.mark.parametrize(
    "equal",
    [
        {"a": Colour.RED, "b": Word.YES, Word.YES: 1},
        {"a": collections.OrderedDict(x=1)},
        {"a": collections.defaultdict(list, x=[1])},
        {"a": collections.Counter("aab")},
        collections.OrderedDict(a=[1]),
    ],
    ids=repr,
)
def test_a_subclass_that_comes_back_equal_is_taken(equal: State) -> None:
    """Enum members and special dicts come back as plain ones that are equal to them."""
    comes_back(JSON, equal)


def test_one_list_in_two_places_is_no_cycle() -> None:
    """An object may stand in a state more than once."""
    shared = [{"a": 1}]
    comes_back(JSON, {"x": shared, "y": [shared, shared]})


def in_itself(kind: str) -> State:
    state: State = {"a": {"b": []}}
    state["a"]["b"].append({"dict": state["a"], "list": state["a"]["b"], "state": state}[kind])
    return state


@pytest.mark.parametrize("kind", ["dict", "list", "state"])
@pytest.mark.parametrize("format", [JSON, MARSHAL], ids=["json", "marshal"])
def test_a_state_that_contains_itself_is_refused(format: serializers.Format, kind: str) -> None:
    """A cycle is an error, and no endless loop."""
    refusal_of(format, in_itself(kind))


def test_a_cycle_beside_an_offender_does_not_hide_it() -> None:
    """The search for the offending item goes round no cycle."""
    state = in_itself("state")
    state["z"] = {1}
    assert refusal_of(JSON, state).item == "state['z']"


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


HUGE = 10**5000


@pytest.mark.parametrize(
    ("format", "state"),
    [
        (JSON, {HUGE: 1}),
        (JSON, {"a": {HUGE: 1}}),
        (JSON, {"a": (HUGE,)}),
        (CSV, {HUGE: "1"}),
        (CSV, {"a": HUGE}),
        (PICKLE, {HUGE: lambda: 0}),
        (MARSHAL, {HUGE: Opaque()}),
        *((format, {"a": Mute()}) for format in (JSON, CSV, PICKLE, MARSHAL)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_shown_is_refused_all_the_same(
    format: serializers.Format, state: State
) -> None:
    """A value of which the message cannot show anything does not turn it into another error."""
    refusal_of(format, state)


DEEP = 200_000


@pytest.mark.parametrize("format", [JSON, PICKLE, MARSHAL])
def test_too_deep_a_state_is_refused(format: serializers.Format) -> None:
    """Nesting beyond what the interpreter can follow is a typed error, not a RecursionError."""
    refusal_of(format, nested(20_000))


def tupled(depth: int) -> State:
    inner: tuple[Any, ...] = ()
    for _ in range(depth):
        inner = (inner,)
    return {"deep": inner}


@pytest.mark.parametrize(
    ("format", "state"),
    [(JSON, tupled(20_000)), (CSV, tupled(20_000)), (CSV, nested(20_000))],
    ids=["json tuple", "csv tuple", "csv list"],
)
def test_what_is_too_deep_to_be_shown_is_refused(format: serializers.Format, state: State) -> None:
    """The refusal of a value of which the repr goes too deep is a typed error too."""
    assert refusal_of(format, state).item == "state['deep']"


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
            b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
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
    assert caught.value.reason.startswith(reason)


# -- csv


@given(st.dictionaries(st.text(), st.text()))
@example({"": ""})
@example({"a": "x\r"})
@example({"\r": "x"})
@example({"a\r\nb": 'x\n"y",\n'})
@example({"a": "\0", " b ": " ", "#": "\ufeff", "\u2028": "\x0b"})
def test_any_text_comes_back_from_csv(state: dict[str, str]) -> None:
    """Separators, quotes and every kind of line end included."""
    assert list(comes_back(CSV, state)) == list(state)


def test_csv_is_a_row_an_item() -> None:
    """A payload is what any spreadsheet reads."""
    rows = CSV.encode({"ö": "1,5", "b": 'say "x"'}).decode().splitlines()
    assert rows == ['ö,"1,5"', 'b,"say ""x"""']
    assert CSV.encode({}) == b""


@pytest.mark.parametrize(
    ("state", "item", "why"),
    [
        ({"a": 1}, "state['a']", "1 (int) would come back as a str"),
        ({"a": "x", "b": None}, "state['b']", "None (NoneType) would come back as a str"),
        ({"a": b"x"}, "state['a']", "b'x' (bytes) would come back as a str"),
        ({"a": ["x"]}, "state['a']", "['x'] (list) would come back as a str"),
        ({1: "a"}, "state[1]", "1 (int) would come back as a str"),
        ({"a": "\ud800"}, "state['a']", r"'\ud800' (str): 'utf-8' codec can't encode character "),
        ({"\ud800": "a"}, r"state['\ud800']", r"'\ud800' (str): 'utf-8' codec can't encode "),
    ],
    ids=repr,
)
def test_what_csv_would_change_is_refused_by_its_path(state: State, item: str, why: str) -> None:
    """Nothing silently becomes a string."""
    error = refusal_of(CSV, state)
    assert error.item == item
    assert error.reason.startswith(f"{item}: {why}")


def test_a_field_longer_than_csv_reads_is_refused() -> None:
    """What the reader would not take is not written; up to that, it comes back."""
    limit = csv.field_size_limit()
    comes_back(CSV, {"a": "x" * limit, "y" * limit: '"' * limit})
    for state in ({"a": "x" * (limit + 1)}, {"x" * (limit + 1): "a"}):
        assert "is longer than csv.field_size_limit()" in refusal_of(CSV, state).reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"a,b,c\n", "a row has not exactly two fields"),
        (b"a\n", "a row has not exactly two fields"),
        (b"a,1\nb\n", "a row has not exactly two fields"),
        (b"a,1\n\nb,2\n", "a row has not exactly two fields"),
        (b"a,1\na,2\n", "a key stands there twice"),
        (b'a,"b\n', "Error: unexpected end of data"),
        (b'a,"b"c\n', "Error: ',' expected after '\"'"),
        (b"a,\xff\n", "UnicodeDecodeError: "),
        (b"a," + b"x" * 200_000 + b"\n", "Error: field larger than field limit"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_not_csv_of_pairs_is_a_format_error(payload: bytes, reason: str) -> None:
    """A row too short or too long is no item, and no key counts twice."""
    with pytest.raises(FormatError) as caught:
        CSV.decode(payload)
    assert caught.value.reason.startswith(f"not readable as csv: {reason}")


def test_csv_with_windows_line_ends_is_read() -> None:
    """The recipe wrote its rows with a carriage return."""
    assert CSV.decode(b"a,1\r\nb,2\r\n") == {"a": "1", "b": "2"}


# -- pickle


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


# -- objects


def text_dumps(state: State) -> str:
    return json.dumps(state)


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


@pytest.mark.parametrize("kind", OBJECTS)
def test_any_object_with_a_pair_of_functions_is_a_format(kind: str) -> None:
    """`dumps` and `loads`, or `dump` and `load`; text or bytes: what it does is found out."""
    format = serializers.resolve(OBJECTS[kind])
    payload = format.encode({"ö": [1, None, {"x": 1.5}]})
    assert isinstance(payload, bytes)
    assert format.decode(payload) == {"ö": [1, None, {"x": 1.5}]}
    with pytest.raises(FormatError):
        format.decode(b"\xff\xff")


def test_dumps_is_preferred_to_dump() -> None:
    """An object that has both pairs is used through the faster one."""
    format = serializers.resolve(
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
    assert serializers.resolve(target).name == name


def test_an_object_without_a_name_is_refused() -> None:
    """A trailer says which format it is in."""
    with pytest.raises(ValueError, match="'' cannot name a format"):
        serializers.resolve(types.SimpleNamespace(__name__="", dumps=str, loads=eval))


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("json", "JsonFormat"),
        (json, "JsonFormat"),
        ("csv", "CsvFormat"),
        ("pickle", "PickleFormat"),
        (pickle, "PickleFormat"),
        (marshal, "ObjectFormat"),
    ],
)
def test_modules_that_have_a_format_of_their_own_get_it(format: object, kind: str) -> None:
    """`format=json` is `format="json"`."""
    assert type(serializers.resolve(format)).__name__ == kind


@pytest.mark.parametrize("name", ["yaml", "JSON", "", "object"])
def test_an_unknown_name_is_refused(name: str) -> None:
    """The error lists the names that are known."""
    with pytest.raises(ValueError, match="known are csv, json, pickle"):
        serializers.resolve(name)


@pytest.mark.parametrize(
    "target",
    [
        None,
        1,
        csv,
        namespace(dumps=str),
        namespace(dump=json.dump, loads=json.loads),
        namespace(dumps="not callable", loads=eval),
    ],
)
def test_an_object_without_a_pair_of_functions_is_refused(target: object) -> None:
    """Half a pair is none."""
    with pytest.raises(TypeError, match="neither dumps and loads nor dump and load"):
        serializers.resolve(target)


def forgetful(change: Callable[[State], Any]) -> serializers.Format:
    """Return a format that gives something else back than it was given."""
    return serializers.resolve(
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
    assert error.reason.startswith(f"{item}: {why}")


def test_what_a_format_gives_back_must_be_a_dict() -> None:
    """A format that returns something else altogether is refused too."""
    assert "it holds a list, not a dict" in refusal_of(forgetful(list), {"a": 1}).reason
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

    format = serializers.resolve(namespace(dumps=dumps, loads=eval))
    error = refusal_of(format, {"a": [1]})
    assert error.item == "state['a'][0]"
    assert "1 (int): out of paper" in error.reason
    assert refusal_of(format, {"a": []}).item == "state"


def test_orjson_is_a_format_as_it_is() -> None:
    """The module goes in unchanged, and what it would change is refused."""
    orjson = pytest.importorskip("orjson")
    format = serializers.resolve(orjson)
    assert format.name == "orjson"
    comes_back(format, {"ö": [1, 2.5, None, {"x": True}]})
    for value in ((1, 2), math.nan, datetime(2026, 1, 1, tzinfo=UTC), {1: 2}, 1 << 70):
        refusal_of(format, {"a": value})


# -- plain files


@pytest.mark.parametrize("asked", ["json", "csv", "pickle", marshal], ids=str)
@pytest.mark.parametrize(
    "content",
    [b'{"a": "1"}', b' \n{"a": "1"}\n', b'\xef\xbb\xbf{"a": "1"}', b"a,1\r\n", b'"a","1"'],
)
def test_a_plain_file_is_read_in_whichever_format_the_recipe_left(
    asked: object, content: bytes
) -> None:
    """The recipe tried every loader on a file, so the format asked for may not be the file's."""
    assert serializers.read_plain(content, serializers.resolve(asked)) == {"a": "1"}


@pytest.mark.parametrize("asked", ["pickle", marshal], ids=str)
def test_a_plain_file_is_first_read_in_the_format_asked_for(asked: object) -> None:
    """What pickle or a foreign format wrote is read by it, if it is what the caller asked for."""
    format = serializers.resolve(asked)
    assert serializers.read_plain(format.encode({"a": (1,)}), format) == {"a": (1,)}


def test_the_format_asked_for_is_believed_before_json() -> None:
    """What looks like JSON may be something else to the format that wrote it."""
    format = serializers.resolve(namespace(dumps=text_dumps, loads=lambda text: {"mine": text}))
    assert serializers.read_plain(b'{"a": 1}', format) == {"mine": '{"a": 1}'}


FORMATS = ["json", "csv", "pickle", marshal]


@pytest.mark.parametrize("asked", FORMATS, ids=str)
@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 4096, b"\n", b" \t\r\n\0"])
def test_an_empty_plain_file_is_not_an_empty_dict(asked: object, content: bytes) -> None:
    """Emptiness and NULs are what a crash makes of a good file."""
    with pytest.raises(FormatError, match="it is empty or filled with NUL bytes"):
        serializers.read_plain(content, serializers.resolve(asked))


def is_read(content: bytes, asked: object) -> bool:
    try:
        serializers.read_plain(content, serializers.resolve(asked))
    except FormatError:
        return False
    return True


DOCUMENT = b'{"a": 1, "b": [2]}'


@pytest.mark.parametrize("asked", FORMATS, ids=str)
@pytest.mark.parametrize("before", [b"", b"\n ", b"\xef\xbb\xbf"])
def test_half_a_json_file_is_never_taken_for_csv(asked: object, before: bytes) -> None:
    """Cut at any length, a JSON file is refused, though the rest looks like a row of two fields."""
    whole = before + DOCUMENT
    assert is_read(whole, asked)
    assert not [whole[:size] for size in range(len(whole)) if is_read(whole[:size], asked)]


@pytest.mark.parametrize("asked", FORMATS, ids=str)
def test_a_json_file_of_which_a_part_is_nul_is_never_taken_for_csv(asked: object) -> None:
    """Blocks that never reached the medium read as NULs; what is left is no row of two fields."""
    size = len(DOCUMENT)
    holes = [(start, end) for start in range(size) for end in range(start + 1, size)]
    torn = [DOCUMENT[:start] + b"\0" * (end - start) + DOCUMENT[end:] for start, end in holes]
    assert not [content for content in torn if is_read(content, asked)]


@pytest.mark.parametrize(
    "content", [b"[1, 2]", b'["a", "b"]', b'[["a", "b"]]', b"1", b'"a,b"', b"nothing\n", b"a,b,c\n"]
)
def test_a_plain_file_in_no_known_format_is_refused(content: bytes) -> None:
    """What holds no dict is an error that says what was tried."""
    for asked, tried in (("json", ["json"]), ("pickle", ["pickle", "json"])):
        with pytest.raises(FormatError) as caught:
            serializers.read_plain(content, serializers.resolve(asked))
        for name in tried:
            assert f"not readable as {name}: " in caught.value.reason


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "x")


def planted(path: Path, protocol: int) -> bytes:
    return pickle.dumps({"a": Planted(path)}, protocol)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("asked", ["json", "csv", OBJECTS["text"]], ids=["json", "csv", "object"])
def test_pickle_is_never_tried_on_a_file_unless_asked_for(
    tmp_path: Path, asked: object, protocol: int
) -> None:
    """A planted file runs no code: the one it would write is not there."""
    assert not is_read(planted(tmp_path / "ran", protocol), asked)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_planted_file_would_run(tmp_path: Path) -> None:
    """The test above shows something: asked for by name, the same pickle does run."""
    state = serializers.read_plain(planted(tmp_path / "ran", 0), PICKLE)
    state["a"].close()
    assert (tmp_path / "ran").exists()


def test_unasked_only_what_runs_no_code_is_decoded() -> None:
    """A trailer that names pickle, or a format unknown here, decides nothing."""
    assert [getattr(serializers.by_trailer_name(n), "name", None) for n in ("json", "csv")] == [
        "json",
        "csv",
    ]
    for name in ("pickle", "marshal", "", "yaml"):
        assert serializers.by_trailer_name(name) is None


def test_a_format_error_is_no_unstorable_error() -> None:
    """What cannot be read and what cannot be written are told apart, and share a base."""
    assert issubclass(UnstorableError, FormatError)
    assert issubclass(FormatError, errors.RedundictError)
