"""JSON with orjson and without: the same states, the same files, the same refusals."""

from __future__ import annotations

import copy
import gc
import json
import math
import re
import sys
import tracemalloc
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from redundict import errors
from redundict.formats import strict_json
from redundict.formats.refusals import MAX_DEPTH

orjson = pytest.importorskip("orjson")
FORMAT = strict_json.JsonFormat()
MANY = 20_000
WAYS: tuple[Any, ...] = (orjson, None)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=[]))
)
keys = st.text(st.characters(exclude_categories=[]))
states = st.dictionaries(
    keys,
    st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20
    ),
    max_size=5,
)
foreign = st.sampled_from(
    [
        (1, 2),
        {1},
        b"x",
        math.nan,
        math.inf,
        -math.inf,
        uuid.UUID(int=1),
        datetime.now(UTC),
        object(),
    ]
)


@contextmanager
def using(module: Any) -> Iterator[None]:
    """Let the format find this module as orjson, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_json, "_orjson", lambda: module)
        yield


def same(one: object, other: object) -> bool:
    """Tell whether two states are equal, types, the order of keys and the sign of zero included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def outcome(act: Callable[[], Any]) -> Any:
    """Return what `act` returns, or the item and the type of its refusal."""
    try:
        return act()
    except errors.UnstorableError as error:
        return type(error), error.item
    except errors.FormatError as error:
        return type(error)


@hypothesis.given(states)
def test_what_either_encodes_both_decode(state: dict[str, Any]) -> None:
    """Two programs, one with orjson and one without, read each other's stores."""
    payloads = []
    for encoder in WAYS:
        with using(encoder):
            payloads.append(outcome(lambda: FORMAT.encode(state)))
    refused = [payload for payload in payloads if not isinstance(payload, bytes)]
    if refused:  # two surrogates side by side
        assert payloads[0] == payloads[1]
        return
    for payload in payloads:
        for decoder in WAYS:
            with using(decoder):
                assert same(FORMAT.decode(payload), state)


@hypothesis.given(st.lists(states, min_size=1))
def test_text_stays_readable(history: list[dict[str, Any]]) -> None:
    """Whatever was encoded before, text is written as UTF-8 and not as escapes."""
    before = strict_json.JsonFormat()
    with using(None):
        for state in history:
            payload = outcome(lambda state=state: before.encode(state))
            assert payload == outcome(lambda state=state: strict_json.JsonFormat().encode(state))
            if isinstance(payload, bytes) and not has_surrogates(state):
                assert (
                    payload == json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode()
                )


def has_surrogates(state: dict[str, Any]) -> bool:
    """Tell whether there is text that has no UTF-8."""
    try:
        json.dumps(state, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


@hypothesis.given(states, st.data())
def test_both_refuse_the_same_item(state: dict[str, Any], data: st.DataObject) -> None:
    """Whatever JSON cannot give back is refused with its path, whoever encodes."""
    places: list[Any] = [state]
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [value for value in inner if isinstance(value, dict | list)]
    place = data.draw(st.sampled_from(places))
    value = data.draw(foreign)
    if isinstance(place, list):
        place.append(value)
    elif data.draw(st.booleans()):
        place["foreign"] = value
    else:
        place[data.draw(st.sampled_from([1, None, 1.5, True]))] = "a key"
    found = []
    for encoder in WAYS:
        with using(encoder):
            found.append(outcome(lambda: FORMAT.encode(state)))
    assert found[0] == found[1]
    assert found[0][0] is errors.UnstorableError


class Color(Enum):
    RED = 1


class Number(IntEnum):
    ONE = 1


class Text(str):
    """A str, but not exactly."""

    __slots__ = ()


class Masked:
    """What says that it is a str."""

    __class__ = str  # type: ignore[assignment]


def has_surrogate_pairs(state: dict[str, Any]) -> bool:
    """Tell whether two surrogates in a text would come back as one character."""
    pair = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
    text = json.dumps(state, ensure_ascii=False).encode("ascii", "backslashreplace").decode()
    return bool(pair.search(text.replace("\\\\", "")))


def is_plain(value: object, depth: int = 1) -> bool:
    """Tell whether a value is, one look at a time."""
    if type(value) is dict or type(value) is list:
        keys, inside = (value, value.values()) if type(value) is dict else ((), value)
        return (
            depth <= MAX_DEPTH
            and all(type(key) is str for key in keys)
            and all(is_plain(inner, depth + 1) for inner in inside)
        )
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (str, int, bool)


odd = foreign | st.sampled_from(
    [Text("x"), Number.ONE, Masked(), {1: 2}, {Text("x"): 1}, {None: 1}]
)


@pytest.mark.parametrize("many", [1, 70])
@hypothesis.given(state=states, value=st.none() | odd, data=st.data())
@hypothesis.settings(max_examples=60)
def test_the_check_says_what_a_look_at_each_value_says(
    many: int, state: dict[str, Any], value: object, data: st.DataObject
) -> None:
    """With one thing among plain ones, few or many of them, alike or not, it is no less strict."""
    copies = [copy.deepcopy(state) for _ in range(many)]
    places: list[Any] = [data.draw(st.sampled_from(copies))]
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [value for value in inner if isinstance(value, dict | list)]
    place = data.draw(st.sampled_from(places))
    if isinstance(place, list):
        place.insert(data.draw(st.integers(0, len(place))), value)
    else:
        place[data.draw(st.sampled_from(["new", 1, Text("new")]) | keys)] = value
    for whole in ({"a": copies}, {str(n): one for n, one in enumerate(copies)}):
        assert strict_json.is_plain(whole) == is_plain(whole)
        for way in WAYS:
            with using(way):
                assert isinstance(outcome(lambda whole=whole: FORMAT.encode(whole)), bytes) == (
                    is_plain(whole) and not has_surrogate_pairs(whole)
                )


@pytest.mark.parametrize(
    "value",
    [
        (1,),
        Color.RED,
        uuid.UUID(int=7),
        datetime(2026, 1, 1, tzinfo=UTC),
        math.nan,
        math.inf,
        [None, math.nan],
    ],
    ids=repr,
)
def test_what_orjson_would_take_for_something_else_is_refused(value: object) -> None:
    """It writes a list, a name, a text or null for these, without a word."""
    assert orjson.dumps({"a": value})
    with using(orjson), pytest.raises(errors.UnstorableError, match=r"state\['a'\]"):
        FORMAT.encode({"a": value})


@pytest.mark.parametrize(
    "value",
    [Color.RED, Number.ONE, OrderedDict(b=1, a=2), Text("x"), Masked()],
    ids=["Enum", "IntEnum", "OrderedDict", "str", "class"],
)
def test_a_subclass_is_refused_by_both(value: object) -> None:
    """orjson would take a subclass for its plain type."""
    for way in WAYS:
        with using(way), pytest.raises(errors.UnstorableError, match=r"state\['a'\]"):
            FORMAT.encode({"a": value})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", "null", None])
def test_what_is_accepted_without_orjson_is_accepted_with_it(value: object) -> None:
    """Long integers and lone surrogates: the same bytes mean it."""
    decoded = []
    for way in WAYS:
        with using(way):
            decoded.append(FORMAT.decode(FORMAT.encode({"a": value})))
    assert decoded[0] == decoded[1] == {"a": value}


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "9223372036854775808",
        "1e400",
        "NaN",
        "-Infinity",
        "-0",
        "-0.0",
        '"\\ud800"',
        "0." + "1" * 400,
        "123456789012345678901234567890.5",
        "1" * 400,
        '{"a":1,"a":2}',
        "1E5",
        "01",
        "1.",
        '"\x01"',
        "[1,]",
        "[" * 100_000 + "]" * 100_000,
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_both_read_the_same_in_whatever_others_wrote(text: str, mark: str) -> None:
    """A number, a literal or an escape means the same, or is refused, with orjson and without."""
    payload = f'{mark}{{"a":{text}}}'.encode("utf-8", "surrogatepass")
    found = []
    for way in WAYS:
        with using(way):
            found.append(outcome(lambda: FORMAT.decode(payload)))
    assert same(*found) or repr(found[0]) == repr(found[1])


def test_orjson_does_the_work_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """With plain values, the standard library is not asked."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    payload = FORMAT.encode({"a": [1, 1.5, None, "x", {"b": True}]})
    monkeypatch.setattr(json.JSONEncoder, "encode", refuse)
    monkeypatch.setattr(json, "loads", refuse)
    with using(orjson):
        assert FORMAT.encode(FORMAT.decode(payload)) == payload


def test_without_orjson_the_standard_library_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is not missed."""
    strict_json._orjson.cache_clear()
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert FORMAT.decode(FORMAT.encode({"a": 1})) == {"a": 1}
    strict_json._orjson.cache_clear()


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
def test_a_state_that_contains_itself_is_refused_in_no_time(way: Any) -> None:
    """A cycle has no end in depth or breadth, and the check follows neither."""
    loop: list[Any] = []
    loop += [loop, loop, {"x": loop}]
    with using(way), pytest.raises(errors.UnstorableError):
        FORMAT.encode({"loop": loop})


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_the_limit_of_depth_is_the_same_for_both(way: Any, depth: int) -> None:
    """A state as deep as may be loads again; one level more is refused."""
    state: dict[str, Any] = {}
    for _ in range(depth - 1):
        state = {"a": state}
    with using(way):
        if depth == MAX_DEPTH:
            assert FORMAT.decode(FORMAT.encode(state)) == state
        else:
            with pytest.raises(errors.UnstorableError, match="nested more than"):
                FORMAT.encode(state)


def test_a_list_that_is_there_often_is_no_other_state() -> None:
    """The same object in many places is written in each."""
    shared = [1, 2.5]
    state = {"a": [shared] * 20_000, "b": {"c": shared}}
    for way in WAYS:
        with using(way):
            assert FORMAT.decode(FORMAT.encode(state)) == state


def once_of_other_keys() -> dict[Any, Any]:
    """Return a dict that has room for any keys, and only keys of str."""
    mixed: dict[Any, Any] = {1: 2, "a": None}
    del mixed[1]
    return mixed


def attributes() -> dict[str, Any]:
    """Return the dict of an object, whose keys are its class's."""

    class Thing:
        def __init__(self) -> None:
            self.first, self.gone, self.last = 1, 2, [3]

    thing, other = Thing(), Thing()
    del thing.gone
    return {"thing": vars(thing), "other": vars(other)}


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
@pytest.mark.parametrize("make", [once_of_other_keys, attributes, dict])
def test_however_a_dict_is_built_it_is_stored(make: Callable[[], Any], way: Any) -> None:
    """What a dict went through, or whose it is, does not count."""
    with using(way):
        assert FORMAT.decode(FORMAT.encode({"a": make()})) == {"a": make()}


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
@pytest.mark.parametrize("place", [0, 1, 510, 511, 512, 513, 1023, 1024, 1025, 1999])
@pytest.mark.parametrize("foreign", [(1,), math.nan, {2: 3}, {"x": [{"y": (1,)}]}], ids=repr)
def test_no_item_of_many_is_overlooked(foreign: object, place: int, way: Any) -> None:
    """In a long list, in a large dict, and among many small ones, every item is looked at."""
    plain: list[Any] = [{"n": n} if n % 3 else 1.5 for n in range(2000)]
    listed = [*plain[:place], foreign, *plain[place:]]
    keyed = {str(n): value for n, value in enumerate(listed)}
    for state in (keyed, {"list": listed}, {"a": [{"b": keyed}]}):
        with using(way), pytest.raises(errors.UnstorableError, match=rf"\[[']?{place}[']?\]"):
            FORMAT.encode(state)


@pytest.mark.parametrize(
    "foreign", [(1,), math.nan, {2: 3}, {2: 3, **{str(n): n for n in range(600)}}]
)
def test_nothing_is_overlooked_beside_what_is_large(foreign: object) -> None:
    """A large container does not hide what comes after it."""
    large = [0] * MANY
    for state in ({"c": [large, foreign]}, {"c": {"large": large, "x": [foreign]}}):
        with using(orjson), pytest.raises(errors.UnstorableError):
            FORMAT.encode(state)
    assert FORMAT.decode(FORMAT.encode({"c": [large, {"n": 1}]})) == {"c": [large, {"n": 1}]}


@pytest.mark.parametrize("key", [2, None, Text("2")], ids=repr)
@pytest.mark.parametrize("many", [0, 1, MANY])
def test_no_key_is_overlooked(key: object, many: int) -> None:
    """In the state itself, in a dict of any size and beside others, one that is no str is seen."""
    plain: dict[Any, Any] = {f"key {n}": n for n in range(many)}
    keyed = {**plain, key: 1}
    for make in (lambda d: d, lambda d: {"a": d}, lambda d: {"a": [d, plain, [1]]}):
        assert isinstance(FORMAT.encode(make({**plain, "2": 1})), bytes)
        with pytest.raises(errors.UnstorableError, match=f"key {re.escape(repr(key))} "):
            FORMAT.encode(make(keyed))


@pytest.mark.parametrize("foreign", [(1,), math.nan, {2: 3}, Text("x")], ids=repr)
@pytest.mark.parametrize("place", [0, 1, 99, 100, 198, 199])
def test_no_list_of_many_large_ones_is_overlooked(foreign: object, place: int) -> None:
    """The path has the index of the list and the index in it."""
    lists: list[list[Any]] = [[n] * 500 for n in range(200)]
    lists[place][place] = foreign
    with pytest.raises(errors.UnstorableError) as caught:
        FORMAT.encode({"a": lists})
    assert caught.value.item == f"state['a'][{place}][{place}]"


@pytest.mark.parametrize("other", [once_of_other_keys(), {2: 3}], ids=repr)
def test_the_dict_of_an_object_is_looked_at(other: dict[Any, Any]) -> None:
    """The attributes of an object are a dict like any other."""

    class Thing:
        def __init__(self) -> None:
            self.hidden = (1,)

    thing = Thing()
    for state in ({"a": vars(thing), "b": other}, {"a": [other, vars(thing), {"c": [1]}]}):
        with pytest.raises(errors.UnstorableError):
            FORMAT.encode(state)


@pytest.mark.parametrize(
    "state",
    [
        {"a": [*range(1_000_000)]},
        {"a": dict.fromkeys(map(str, range(200_000)))},
        {"a": [[0.5] * 1000] * 1000},
        {str(n): [n, 2.5, "x"] for n in range(100_000)},
    ],
    ids=["list", "dict", "matrix", "records"],
)
def test_to_check_a_large_state_takes_little_memory(state: dict[str, Any]) -> None:
    """Whatever its shape, the check copies nothing."""
    tracemalloc.start()
    try:
        assert strict_json.is_plain(state)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
@pytest.mark.parametrize("payload", [b'{"a":[1]}', b"no JSON"])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(payload: bytes, enabled: bool, way: Any) -> None:
    """Whether decoding succeeds or fails, a program that runs without it goes on without it."""
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with using(way):
            outcome(lambda: FORMAT.decode(payload))
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("way", WAYS, ids=["orjson", "json"])
def test_nothing_is_collected_while_a_large_state_is_decoded(way: Any) -> None:
    """However many containers are made, the collector looks at them once, when all are there."""
    payload = json.dumps({"a": [[n] for n in range(100_000)]}).encode()
    began: list[object] = []
    count = lambda phase, _: began.append(phase) if phase == "start" else None
    gc.collect()
    gc.callbacks.append(count)
    try:
        with using(way):
            decoded = FORMAT.decode(payload)
    finally:
        gc.callbacks.remove(count)
    assert len(decoded["a"]) == 100_000
    assert len(began) <= 2


def test_a_type_that_cannot_be_hashed_or_lies_about_it_is_refused_with_its_path() -> None:
    """A metaclass may do either; a sync says which item it is, as for any other type."""

    class Unhashable(type):
        __hash__ = None  # type: ignore[assignment] # what Python does where only __eq__ is defined

    class Liar(type):
        def __eq__(cls, other: object) -> bool:
            return other is str

        def __hash__(cls) -> int:
            return hash(str)

    for kind in (Unhashable, Liar):
        value = kind("Value", (), {})()
        with pytest.raises(errors.UnstorableError) as caught:
            FORMAT.encode({"a": [1, value]})
        assert caught.value.item == "state['a'][1]"
        with pytest.raises(errors.UnstorableError):
            FORMAT.encode({value: 1})
