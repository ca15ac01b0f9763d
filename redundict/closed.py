"""What a closed dict is: an instance of a class of which every method says so.

An open store pays nothing for it: closing changes the object's class. Knows no stores.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NoReturn, TypeVar

from . import errors

Kind = TypeVar("Kind", bound=type[dict[Any, Any]])

_MACHINERY: Final = {"__new__", "__init__", "__getattribute__", "__hash__", "__sizeof__"}


class _Closed:
    """The few methods that a closed dict still has."""

    path: str

    def close(self) -> None:
        """Do nothing: it is closed."""

    def __exit__(self, *_: object) -> None:
        """Do nothing: it is closed."""

    def __del__(self) -> None:
        """Do nothing: it is closed."""

    def __repr__(self) -> str:
        return f"<closed store {self.path!r}>"


@functools.cache
def closed_class(kind: Kind) -> Kind:
    """Return the class of `kind`'s closed instances: each method raises `ClosedError`.

    Attributes and properties still answer, `close` does nothing, and `isinstance` holds.
    """
    methods = {
        name for base in kind.__mro__[:-1] for name, it in vars(base).items() if callable(it)
    }
    refused = dict.fromkeys(methods - _MACHINERY - vars(_Closed).keys(), _refuse)
    return type(f"Closed{kind.__name__}", (_Closed, kind), refused)  # type: ignore[return-value]


def _refuse(self: _Closed, *_: object, **__: object) -> NoReturn:
    raise errors.ClosedError("the store is closed", path=self.path, action="open it again")
