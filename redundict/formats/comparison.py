"""Find the items of a state that came back changed. This module knows no format.

`==` alone does not tell: 1 equals True, a NaN does not equal itself, and numpy's arrays answer with
an array. So types are compared first, then values, and then the parts of an object, which are what
pickle would save of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import isnan
from typing import Any, Final, NamedTuple

from .refusals import (
    ROOT,
    State,
    described,
    equal,
    is_a,
    is_exactly,
    kind_of,
    reraise_foreign,
    shown,
)

#: Types of which equal texts prove equal values, by module; to compare their parts is slow.
_PRINTED: Final = {
    "datetime": ("date", "time", "datetime", "timedelta"),
    "decimal": ("Decimal",),
    "uuid": ("UUID",),
}
_SCALARS: Final = (str, int, float, complex, bool, type(None), bytes)  #: These have no parts.
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)
_REDUCED: Final = 4  #: The protocol of pickle whose parts are compared.
_MISSING: Final = object()


class Difference(NamedTuple):
    """An item that comes back changed."""

    item: str  #: Its path, or that of the container whose key or member it is.
    why: str
    value: object  #: The item, the key or the member.
    is_subclass: bool = False  #: It comes back equal, as a type that its own type derives from.


def differences(given: State, back: State) -> Iterator[Difference]:
    """Yield the items that come back as another type, or as another value.

    Objects are compared by ``==`` and by their parts. If ``==`` raises, or answers neither True nor
    False, the parts decide alone. If pickle cannot take the object apart, its type has to do.

    Args:
        given: The state that was encoded.
        back: The state that was decoded from the payload.

    """
    yield from _Comparison().in_items(given, back, ROOT)


class _Comparison:
    """One walk through two states."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()  #: Pairs of containers or objects, by their ids.
        self._kept: list[object] = []  #: While an object is kept here, no other gets its id.
        self._printed = [
            getattr(sys.modules[module], name)
            for module, names in _PRINTED.items()
            for name in names
            if module in sys.modules
        ]
        self._unequal = 0  #: How many values were met that do not equal themselves, such as NaN.

    def in_values(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        """Yield the differences between two values, those in their items included."""
        kind = type(back)
        if kind is type(given) and (kind is str or kind is int) and given == back:
            return  # most values of most states
        if type(given) is not kind:
            is_subclass = is_a(given, kind) and equal(given, back) is True
            what = f"a plain {kind_of(back)}" if is_subclass else described(back)
            if kind_of(given) == kind_of(back):  # dill makes the classes of `__main__` anew
                what = f"an object of another class {kind_of(back)}"
            yield Difference(path, f"{described(given)} comes back as {what}", given, is_subclass)
            if not is_subclass:
                return
        yield from self.in_items(given, back, path)

    def in_items(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        """Yield the differences between two values of one type."""
        is_printed = type(given) is type(back) and is_exactly(given, *self._printed)
        if is_printed and repr(given) == repr(back):
            return
        pair = id(given), id(back)
        if given is back or pair in self._seen:
            return
        self._seen.add(pair)
        self._kept += given, back
        if is_a(given, dict):
            yield from self._in_dicts(given, back, path)
        elif is_a(given, list, tuple):
            yield from self._in_sequences(given, back, path)
        elif is_a(given, set, frozenset):
            yield from self._in_members(given, back, path)
        elif is_exactly(given, *_SCALARS) or type(given) is not type(back):
            if not self._same_scalars(given, back):
                yield _changed(given, back, path)
        else:
            yield from self._in_objects(given, back, path)

    def _in_dicts(self, given: State, back: State, path: str) -> Iterator[Difference]:
        found = {key: key for key in back}
        for key in given:
            if type(key) is str and type(found.get(key)) is str:
                continue
            if key in found:
                yield from self._in_hashables("key", key, found[key], path)
            else:
                yield Difference(path, f"key {described(key)} does not come back", key)
        if len(back) > len(given):
            yield Difference(path, "comes back with more keys", given)
        for key, value in given.items():
            if key in back:
                yield from self.in_values(value, back[key], f"{path}[{shown(key)}]")
        yield from self._in_attributes(given, back, path)

    def _in_sequences(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        if len(given) != len(back):
            yield Difference(path, f"comes back with {len(back)} items", given)
        for index, (value, other) in enumerate(zip(given, back, strict=False)):
            yield from self.in_values(value, other, f"{path}[{index}]")
        yield from self._in_attributes(given, back, path)

    def _in_members(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        found = {member: member for member in back}
        if len(given) != len(back) or any(member not in found for member in given):
            yield _changed(given, back, path)
            return
        for member in given:
            yield from self._in_hashables("its item", member, found[member], path)
        yield from self._in_attributes(given, back, path)

    def _in_hashables(self, what: str, given: Any, back: Any, path: str) -> Iterator[Difference]:
        """Yield at most one difference between two keys, or two members of sets."""
        for found in self.in_values(given, back, path):
            why = f"{what} {described(given)} comes back as {described(back)}"
            yield Difference(path, why, given, found.is_subclass)
            break

    def _in_attributes(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        """Yield the differences between the attributes of two containers of one type."""
        if type(given) is type(back) and not is_exactly(given, *_CONTAINERS):
            yield from self._between(_parts(given)[1], _parts(back)[1], path)

    def _in_objects(self, given: Any, back: Any, path: str) -> Iterator[Difference]:
        """Yield the differences between two objects of one type, those in their parts included."""
        unequal, differs = self._unequal, equal(given, back) is False
        self._unequal += differs and equal(given, given) is False
        (head, attributes), (other, others) = _parts(given), _parts(back)
        found = list(self._between(attributes, others, path))
        yield from found
        if not found:
            in_head = list(self.in_values(head, other, path))
            differs = differs and self._unequal == unequal  # NaN in it would explain that
            if differs or in_head:
                only_subclasses = not differs and all(one.is_subclass for one in in_head)
                yield _changed(given, back, path, only_subclasses)

    def _same_scalars(self, given: Any, back: Any) -> bool:
        if is_a(given, float):
            self._unequal += isnan(given)
            return float.__repr__(given) == float.__repr__(back)  # unlike `==`: NaN, signed zero
        if is_a(given, complex):
            real = self._same_scalars(given.real, back.real)
            return self._same_scalars(given.imag, back.imag) and real
        return equal(given, back) is not False

    def _between(self, given: State, back: State, path: str) -> Iterator[Difference]:
        for name, value in given.items():
            other = back.get(name, _MISSING)
            if other is _MISSING:
                yield Difference(path, f"its attribute {name} does not come back", value)
            else:
                yield from self.in_values(value, other, f"{path}.{name}")


def _changed(given: object, back: object, path: str, is_subclass: bool = False) -> Difference:
    why = f"{described(given)} comes back as {described(back)}"
    return Difference(path, why, given, is_subclass)


def _parts(value: Any) -> tuple[list[Any], State]:
    """Return what pickle would save of an object: the attributes by name, the rest before them."""
    try:
        reduced = value.__reduce_ex__(_REDUCED)
        if not is_a(reduced, tuple):
            return [reduced], {}
        made, args, state, items, pairs = [*reduced[:5], None, None, None][:5]
        head = [made, args, list(items or ()), dict(pairs or ())]
        dicts = state if is_a(state, tuple) else (state,)
        if any(part is not None and not is_a(part, dict) for part in dicts):
            return [*head, state], {}
        return head, {name: part[name] for part in dicts if part for name in part}
    except Exception as error:  # noqa: BLE001 - A __reduce__ may raise anything.
        reraise_foreign(error)
        return [], {}
