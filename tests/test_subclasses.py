"""Subclasses of built-in types: refused by their path, or stored as an equal plain value and told.

What loads is what was saved, or an `UnstorableError` was raised, however strange the object is.
"""

from __future__ import annotations

import collections
import enum
import types
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

import redundict
from redundict.errors import UnstorableError
from redundict.formats.resolve import Format, resolve

from .formats import OBJECTS, Colour, Point, Word, namespace, refusal_of, same


class Text(str):
    __slots__ = ()


class Whole(int):
    def __repr__(self) -> str:
        return "7"

    __str__ = __repr__


class Real(float):
    def __repr__(self) -> str:
        return "9.0"


class Raw(bytes):
    def __bytes__(self) -> bytes:
        return b"other"


class Pair(complex):
    pass


class Row(list[Any]):
    pass


class Group(set[Any]):
    pass


class Fixed(frozenset[Any]):
    pass


class Buffer(bytearray):
    pass


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Named(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    X = "x"


#: A value of a subclass of each built-in type, and the plain value that is equal.
SUBCLASSES: dict[str, tuple[Any, Any]] = {
    "str": (Text("x"), "x"),
    "StrEnum": (Word.YES, "yes"),
    "str Enum": (Named.X, "x"),
    "int": (Whole(3), 3),
    "IntEnum": (Colour.RED, 1),
    "IntFlag": (Flags.A | Flags.B, 3),
    "float": (Real(1.5), 1.5),
    "complex": (Pair(1, 2), 1 + 2j),
    "bytes": (Raw(b"x"), b"x"),
    "bytearray": (Buffer(b"x"), bytearray(b"x")),
    "list": (Row([1, "a"]), [1, "a"]),
    "namedtuple": (Point(1, 2), (1, 2)),
    "set": (Group({1}), {1}),
    "frozenset": (Fixed({1}), frozenset({1})),
    "OrderedDict": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "defaultdict": (defaultdict(list, a=[1]), {"a": [1]}),
    "Counter": (Counter("aab"), {"a": 2, "b": 1}),
}
#: The plain types that each format holds.
HELD: dict[str, tuple[type, ...]] = {
    "json": (str, int, float, list, dict),
    "csv": (str,),
    "literal": (str, int, float, complex, bytes, list, tuple, set, dict),
}
KEYS = {"json": (str,), "csv": (str,), "literal": (str, int, float, complex, bytes, tuple)}


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_a_subclass_of_any_built_in_type_is_refused_by_its_path(kind: str, name: str) -> None:
    """As a value, inside another value, and as a key."""
    value, _ = SUBCLASSES[kind]
    format = resolve(name)
    assert refusal_of(format, {"a": value}).item == "state['a']"
    if name != "csv":
        assert refusal_of(format, {"a": [{"b": value}]}).item == "state['a'][0]['b']"
    if value.__hash__:
        refusal_of(format, {value: "x"})
        refusal_of(format, {"a": {value: "x"}})


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("kind", SUBCLASSES)
def test_a_subclass_of_any_built_in_type_is_stored_plain_for_permadict(
    path: str, kind: str, name: str
) -> None:
    """One warning names the place. A type that the format does not hold is refused as before."""
    value, plain = SUBCLASSES[kind]
    state = redundict.PermaDict(path, format=name)
    state["a"] = value
    if type(plain) not in HELD[name]:
        with pytest.raises(UnstorableError):
            state.sync()
        del state["a"]
        state.close()
        return
    with pytest.warns(UserWarning, match=r"state\['a'\]: .*is stored as its plain value"):
        state.close()
    assert same(redundict.load(path), {"a": plain})


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize("kind", [kind for kind in SUBCLASSES if SUBCLASSES[kind][0].__hash__])
def test_a_subclass_as_a_key_is_stored_plain_for_permadict(kind: str, name: str) -> None:
    """Keys count as values do, and the path is that of their dict."""
    key, plain = SUBCLASSES[kind]
    told: list[tuple[str, object]] = []
    format = resolve(name, lambda item, value: told.append((item, value)))
    if type(plain) not in KEYS[name]:
        refusal_of(format, {key: "x"})
        assert told == []
        return
    assert same(format.decode(format.encode({key: "x"})), {plain: "x"})
    ((item, value),) = told
    assert item.startswith("state")
    assert value is key


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_a_foreign_format_that_gives_plain_values_back_is_found_out(kind: str) -> None:
    """The type is compared, at every depth, although the values are equal."""
    value, plain = SUBCLASSES[kind]
    assert value == plain
    for state, back, item in (
        ({"a": value}, {"a": plain}, "state['a']"),
        ({"a": [(value,)]}, {"a": [(plain,)]}, "state['a'][0][0]"),
        *(
            (
                ({value: 1}, {plain: 1}, "state"),
                ({(1, value): 1}, {(1, plain): 1}, "state"),
                ({"a": {value}}, {"a": {plain}}, "state['a']"),
                ({"a": frozenset({(value,)})}, {"a": frozenset({(plain,)})}, "state['a']"),
            )
            if value.__hash__
            else ()
        ),
    ):
        told: list[object] = []
        format = namespace(dumps=lambda _: b"", loads=lambda _, back=back: back)
        assert refusal_of(resolve(format), state).item == item
        resolve(format, lambda item, _, told=told: told.append(item)).encode(state)
        assert told == [item]


class Folded(str):
    """A text that differs from every other one, and has the same characters as one of them."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return type(other) is str and str.__eq__(self, other)


class Apart(Folded):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Folded.__hash__


class Low(int):
    def __hash__(self) -> int:
        return 1 << 40


@pytest.mark.parametrize("name", HELD)
@pytest.mark.parametrize(
    "keys",
    [
        ("a", Folded("a")),
        (Folded("a"), Folded("a")),
        ("a", Apart("a")),
        (1, Low(1)),
    ],
    ids=repr,
)
def test_two_keys_that_would_become_one_are_refused(name: str, keys: tuple[Any, Any]) -> None:
    """At any depth, and for a caller that is told of subclasses, too: no item is lost."""
    one, other = keys
    state = {one: "1", other: "2"}
    assert len(state) == 2
    for format in (resolve(name), resolve(name, lambda *_: None)):
        for whole in (state, {"a": state}, {"a": [state]}):
            refusal_of(format, whole)
    if name == "literal":
        for format in (resolve(name), resolve(name, lambda *_: None)):
            refusal_of(format, {"a": set(state)})
            refusal_of(format, {"a": {(one,): 1, (other,): 2}})


def explode(*_: object) -> NoReturn:
    raise LookupError("asked")


class Masked:
    """Says that it is a dict."""

    __class__ = dict  # type: ignore[assignment]


class Unmasked:
    """Does not say what it is."""

    __class__ = property(explode)  # type: ignore[assignment]


class Nameless(type):
    __name__ = property(explode)  # type: ignore[assignment]
    __mro__ = property(explode)  # type: ignore[assignment]
    __eq__ = explode  # type: ignore[assignment]
    __hash__ = explode  # type: ignore[assignment]
    __instancecheck__ = explode  # type: ignore[assignment]
    __subclasscheck__ = explode  # type: ignore[assignment]


class OfNameless(metaclass=Nameless):
    pass


class Shy(str):
    """A text of which every method raises."""

    __slots__ = ()
    __str__ = __repr__ = __format__ = __eq__ = __len__ = __getitem__ = explode  # type: ignore[assignment]
    __iter__ = __add__ = encode = explode  # type: ignore[assignment]
    __hash__ = str.__hash__


class OddText(str):
    """A text that is another one wherever it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "other"

    __repr__ = __str__

    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        return b"other"


class OddRepr:
    def __repr__(self) -> str:
        return Shy("x")


class Hidden(dict[Any, Any]):
    """A dict whose items are hidden, or raise."""

    __iter__ = keys = items = values = explode  # type: ignore[assignment]
    __len__ = __getitem__ = copy = explode  # type: ignore[assignment]


class Elsewhere(dict[Any, Any]):
    """A dict that keeps its items in another place."""

    def __iter__(self) -> Iterator[str]:
        return iter(("x",))

    def keys(self) -> Any:
        return ["x"]

    def items(self) -> Any:
        return [("x", 1)]

    def __getitem__(self, _: object) -> int:
        return 1


class OtherItems(list[Any]):
    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    def __len__(self) -> int:
        return 2


class Agreeing(OtherItems):
    """A list that keeps its items in another place, and knows to what it is equal."""

    def __eq__(self, other: object) -> bool:
        return other == [1, 2]

    __hash__ = None  # type: ignore[assignment]


class NoBool(int):
    def __eq__(self, other: object) -> Any:
        return [0]

    __hash__ = int.__hash__


class NeverEqual(float):
    def __eq__(self, _: object) -> bool:
        return False

    __hash__ = float.__hash__


class BadIter(tuple[Any, ...]):
    __iter__ = __len__ = __getitem__ = explode  # type: ignore[assignment]
    __slots__ = ()


STRANGE: dict[str, Callable[[], Any]] = {
    "masked": Masked,
    "unmasked": Unmasked,
    "of a metaclass": OfNameless,
    "shy text": lambda: Shy("x"),
    "odd text": lambda: OddText("x"),
    "odd repr": OddRepr,
    "hidden": lambda: Hidden(a=1),
    "elsewhere": lambda: Elsewhere(y=2),
    "other items": lambda: OtherItems([9]),
    "agreeing": lambda: Agreeing([9]),
    "no bool": lambda: NoBool(3),
    "never equal": lambda: NeverEqual(1.5),
    "bad tuple": lambda: BadIter((1,)),
    "mapping proxy": lambda: types.MappingProxyType({"a": 1}),
    "user dict": lambda: collections.UserDict(a=1),
    "chain": lambda: collections.ChainMap({"a": 1}),
    "a type": lambda: OfNameless,
    "a generator": lambda: (n for n in range(3)),
}


def all_formats() -> dict[str, Format]:
    kinds: dict[str, object] = {name: name for name in HELD}
    kinds |= {"text": OBJECTS["text"], "marshal": OBJECTS["a module"]}
    formats = {name: resolve(kind) for name, kind in kinds.items()}
    return formats | {f"{n} told": resolve(k, lambda *_: None) for n, k in kinds.items()}


@pytest.mark.parametrize("name", all_formats())
@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_object_is_refused_or_comes_back_as_an_equal_plain_value(
    name: str, strange: str
) -> None:
    """It may lie about its class, its items and its equality, or raise: the error stays typed."""
    make, format = STRANGE[strange], all_formats()[name]
    states: list[Callable[[Any], Any]] = [
        lambda value: {"a": value},
        lambda value: {"a": [1, {"b": value}]},
        lambda value: {"a": (value,)},
        lambda value: {value: 1},
        lambda value: {"a": {(1, value): 1}},
        lambda value: {"a": {value}},
        lambda value: {"a": value, "b": lambda: 0},
    ]
    for build in states:
        try:
            state = build(make())
        except (TypeError, LookupError):
            continue  # it has no hash
        try:
            back = format.decode(format.encode(state))
        except UnstorableError:
            continue
        assert "told" in name or same(back, state)
        assert all(type(key) in (str, int, float, tuple) for key in back)
        assert repr(back)  # plain values, in which nothing raises


def test_what_a_lying_container_loads_as_is_what_it_said_it_was_equal_to() -> None:
    """A subclass is asked for its items. If it is not equal to them, it is refused."""
    for name in ("json", "literal"):
        format = resolve(name, lambda *_: None)
        assert format.decode(format.encode({"a": Agreeing([9])})) == {"a": [1, 2]}
        for value in (Elsewhere(y=2), OtherItems([9]), NeverEqual(1.5), NoBool(3), Hidden(a=1)):
            assert refusal_of(format, {"a": value}).item == "state['a']"


def test_nothing_is_told_of_a_state_that_is_refused() -> None:
    """A warning about a place where nothing was stored would be wrong."""
    told: list[str] = []
    for name in HELD:
        format = resolve(name, lambda item, _: told.append(item))
        refusal_of(format, {"a": Word.YES, "b": object()})
        assert told == []
        format.encode({"a": Word.YES})
        assert told == ["state['a']"]
        told.clear()
