"""Find the plain value that a subclass of a plain type stands for. This module knows no format.

`OrderedDict`, `defaultdict`, `IntEnum` and `np.float64` are such subclasses. A format that gives
back plain types only would lose the subclass, so it refuses one unless its caller accepts that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .refusals import MAX_DEPTH, ROOT, State, equal, is_a, is_exactly, reraise_foreign, shown

Kinds = tuple[type, ...]  #: The plain types that a format can hold.
Told = list[tuple[str, object]]  #: The path and the value of each item that was replaced.

#: Each plain type, and what makes a plain value of its subclass. A container is asked for its
#: items, because a subclass may keep them in another place.
_CONVERT: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    dict: dict,
    list: list,
    tuple: tuple,
    set: set,
}
_TRIES: Final = 10  #: Another thread may change a container between its copy and the comparison.


def with_plain_values(state: State, kinds: Kinds) -> tuple[State, Told]:
    """Return a copy of a state in which plain values stand for equal values of subclasses.

    Args:
        state: The state. Other threads may change what it contains.
        kinds: The plain types that the format can hold.

    Returns:
        A plain dict, in which every dict, list and set is a copy, too. An item that no plain value
        is equal to stays as it is. So do the keys of a dict of which two would become one. Also the
        path and the value of each item that was replaced. For a key, or an item of a set, the path
        is that of the container. An object that stands in several places is listed once.

    """
    return _Plain(kinds).of_state(state)


class _Plain:
    """The plain values that stand for the objects of one state."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._told: Told = []
        self._found: dict[int, Any] = {}  #: What stands for an object, by its id.
        self._originals: list[Any] = []  #: While an object is kept here, no other gets its id.

    def of_state(self, state: State) -> tuple[State, Told]:
        return self._replaced(dict(state), ROOT, 1), self._told

    def _replaced(self, value: Any, path: str, depth: int) -> Any:
        """Return what stands for a value: the value itself if nothing else does."""
        kind = type(value)  # Types are compared by identity: a metaclass may define equality.
        if kind is str or kind is int or kind is bool or kind is float or value is None:
            return value
        if id(value) in self._found:
            return self._found[id(value)]
        plain = _copy(value) if is_exactly(value, *self._kinds) else plain_value(value, self._kinds)
        if plain is None or depth > MAX_DEPTH:
            return value
        if type(plain) is not kind:
            self._told.append((path, value))
        self._originals.append(value)
        if type(plain) is dict:
            plain = self._found[id(value)] = self._with_plain_keys(plain, path)
        elif type(plain) is set:
            plain = self._found[id(value)] = self._with_plain_members(plain, path)
        else:
            self._found[id(value)] = plain
        if type(plain) is dict or type(plain) is list:
            for step, item in plain.items() if type(plain) is dict else enumerate(plain):
                plain[step] = self._replaced(item, f"{path}[{shown(step)}]", depth + 1)
        elif type(plain) is tuple:
            items = enumerate(plain)
            plain = tuple(self._replaced(item, f"{path}[{n}]", depth + 1) for n, item in items)
            self._found[id(value)] = plain
        return plain

    def _with_plain_keys(self, given: State, path: str) -> State:
        """Return a dict with plain keys; the same dict if two keys would become one."""
        plain = dict(zip(map(self._hashable, given), given.values(), strict=True))
        if len(plain) != len(given):
            return given
        self._told += [
            (path, key) for key, other in zip(given, plain, strict=True) if key is not other
        ]
        return plain

    def _with_plain_members(self, given: set[Any], path: str) -> set[Any]:
        """Return a set of plain values; the same set if two of them would become one."""
        pairs = [(value, self._hashable(value)) for value in given]
        plain = {other for _, other in pairs}
        if len(plain) != len(given):
            return given
        self._told += [(path, value) for value, other in pairs if value is not other]
        return plain

    def _hashable(self, value: Any) -> Any:
        """Return what stands for a key, or for an item of a set."""
        plain = value if is_exactly(value, *self._kinds) else plain_value(value, self._kinds)
        if plain is None:
            return value
        if type(plain) is tuple:
            items = tuple(map(self._hashable, plain))
            if any(item is not other for item, other in zip(items, plain, strict=True)):
                return items
        return plain


def _copy(value: Any) -> Any:
    """Return a copy of a dict, list or set, made by one call; any other value as it is."""
    return value.copy() if is_exactly(value, dict, list, set) else value


def plain_type(value: object, kinds: Kinds) -> type | None:
    """Return the plain type that a value's type derives from, None if none of `kinds` is."""
    return next((plain for plain in kinds if is_a(value, plain)), None)


def plain_value(value: object, kinds: Kinds) -> object | None:
    """Return the plain value that a value of a subclass is equal to.

    Args:
        value: A value of a subclass of one of `kinds`.
        kinds: Plain types.

    Returns:
        A value of exactly one of these types. Items in a container are not converted. None if no
        plain value is equal.

    """
    base = plain_type(value, kinds)
    if base is None:
        return None
    for _ in range(_TRIES):
        try:
            plain: object = _CONVERT[base](value)
            if equal(plain, value):
                return plain
        except Exception as error:  # noqa: BLE001 - A subclass's own methods may raise anything.
            reraise_foreign(error)
    return None
