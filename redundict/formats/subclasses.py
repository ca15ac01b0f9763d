"""Find the plain value that a subclass of a plain type stands for. This module knows no format.

`OrderedDict`, `defaultdict`, `IntEnum` and `np.float64` are such subclasses. A format that gives
back plain types only would lose the subclass, so it refuses one unless its caller accepts that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

#: Each plain type, and what makes a plain value of its subclass without asking the subclass.
_CONVERT: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    dict: dict,
    list: list,
}
_TRIES: Final = 10  #: Another thread may change a container between its copy and the comparison.


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
