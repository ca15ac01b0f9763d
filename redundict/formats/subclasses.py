"""Find the plain value that a subclass of a plain type stands for. This module knows no format.

`OrderedDict`, `defaultdict`, `IntEnum` and `np.float64` are such subclasses. A format that gives
back plain types only would lose the subclass, so it refuses one unless its caller accepts that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from .refusals import MAX_DEPTH, ROOT, OnSubclass, State, shown

#: Each plain type, and what makes a plain value of its subclass without asking the subclass.
_CONVERT: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: dict,
    list: list,
}
_TRIES: Final = 10  #: Another thread may change a container between its copy and the comparison.


def with_plain_values(state: State, on_subclass: OnSubclass) -> State:
    """Return a copy of a state in which plain values stand for equal values of subclasses.

    Args:
        state: The state. Other threads may change what it contains.
        on_subclass: Takes the path and the value of each item that is replaced. For a key, the path
            is that of its dict. An object that stands in several places is reported once.

    Returns:
        A plain dict, in which every dict and list is a copy, too. An item that no plain value is
        equal to stays as it is.

    """
    found: dict[int, Any] = {}  #: What stands for an object, by its id.
    originals: list[Any] = []  #: While an object is kept here, no other gets its id.

    def replaced(value: Any, path: str, depth: int) -> Any:
        """Return what stands for a value: the value itself if nothing else does."""
        kind = type(value)  # Types are compared by identity: a metaclass may define equality.
        if kind is str or kind is int or kind is bool or kind is float or value is None:
            return value
        if id(value) in found:
            return found[id(value)]
        is_plain = kind is dict or kind is list
        plain = value.copy() if is_plain else plain_value(value)
        if plain is None or depth > MAX_DEPTH:
            return value
        if not is_plain:
            on_subclass(path, value)
        if type(plain) is dict:
            plain = _with_plain_keys(plain, path, on_subclass)
        found[id(value)] = plain
        originals.append(value)
        if isinstance(plain, dict | list):
            for step, item in plain.items() if isinstance(plain, dict) else enumerate(plain):
                plain[step] = replaced(item, f"{path}[{shown(step)}]", depth + 1)
        return plain

    whole: State = replaced(dict(state), ROOT, 1)
    return whole


def _with_plain_keys(given: State, path: str, on_subclass: OnSubclass) -> State:
    """Return a dict with plain keys; the same dict if two keys would become one."""
    plain = dict(zip(map(_plain_key, given), given.values(), strict=True))
    if len(plain) != len(given):
        return given
    for key, text in zip(given, plain, strict=True):
        if key is not text:
            on_subclass(path, key)
    return plain


def _plain_key(key: object) -> object:
    if type(key) is str or plain_type(key) is not str:
        return key
    text = plain_value(key)
    return key if text is None else text


def plain_type(value: object) -> type | None:
    """Return the plain type that a value's type derives from, None if there is none."""
    kinds = type(value).__mro__
    return next((plain for plain in _CONVERT if any(plain is kind for kind in kinds)), None)


def plain_value(value: object) -> object | None:
    """Return the plain value that a value of a subclass is equal to.

    Args:
        value: A value of a subclass of str, int, float, dict or list.

    Returns:
        A str, int, float, dict or list of exactly that type. Items in a container are not
        converted. None if no plain value is equal.

    """
    base = plain_type(value)
    if base is None:
        return None
    for _ in range(_TRIES):
        with suppress(Exception):  # A subclass's own methods may raise anything.
            plain: object = _CONVERT[base](value)
            if plain == value:
                return plain
    return None
