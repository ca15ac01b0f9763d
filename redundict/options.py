"""The arguments of `open`, checked before anything is touched. Opens nothing."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from .engine.history import MIN_THINNED, RECENT, THINNED, History
from .engine.layout import Copies, Layout
from .formats.resolve import Format, resolve

Flag = Literal["r", "w", "c", "n"]
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
if TYPE_CHECKING:  # type checkers know it; it need not be installed
    from typing_extensions import TypeVar as DefaultingTypeVar

    K = DefaultingTypeVar("K", default=Any)
    V = DefaultingTypeVar("V", default=Any)
else:
    K, V = TypeVar("K"), TypeVar("V")
_SHARED_TIMEOUT: Final = 10.0  #: Seconds: as long as the commits of other processes should take.


@dataclass(frozen=True, slots=True)
class Options:
    """How a store is opened."""

    layout: Layout
    format: Format
    defaults: Mapping[Any, Any]
    timeout: float  #: Seconds to wait for another writer.
    shared: bool
    autosync: float  #: Seconds; 0: never.


def checked(
    path: Path,
    flag: Flag,
    copies: Copies,
    keep: int,
    history: History | None,
    format: object,
    defaults: Mapping[Any, Any] | None,
    timeout: float | None,
    shared: bool,
    autosync: float | None,
) -> Options:
    """Return the arguments of `open` as one object.

    Raises:
        ValueError: If a value is out of its range, or fits no other one.
        TypeError: If a value has the wrong type.

    """
    if flag not in get_args(Flag):
        raise ValueError(f"flag must be one of {', '.join(get_args(Flag))}, not {flag!r}")
    if autosync is not None and (autosync <= 0 or flag == "r"):
        raise ValueError(f"autosync={autosync} needs to be above 0, and a flag other than 'r'")
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, as {timeout} is")
    if timeout is None:
        timeout = _SHARED_TIMEOUT if shared else 0.0
    history = history or (THINNED if keep >= MIN_THINNED else RECENT)
    layout = Layout.of(os.fsdecode(path), copies, keep, history)
    return Options(layout, resolve(format), defaults or {}, timeout, shared, autosync or 0.0)


def filled_in(state: dict[Any, Any], defaults: Mapping[Any, Any]) -> dict[Any, Any]:
    """Fill in what a state lacks, in nested dicts as well; return it."""
    for key, value in defaults.items():
        if key not in state:
            state[key] = copy.deepcopy(value)
        elif isinstance(state[key], dict) and isinstance(value, Mapping):
            filled_in(state[key], value)
    return state
