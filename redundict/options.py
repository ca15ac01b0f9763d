"""The arguments of `open`: check them before any file is changed.

This module must not open a store. Invariant: the values of an `Options` fit together.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from .engine import files, places
from .engine.history import MIN_THINNED, RECENT, THINNED, History
from .engine.layout import Copies, Layout
from .formats.resolve import Format, resolve

Flag = Literal["r", "w", "c", "n"]
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
if TYPE_CHECKING:  # every type checker knows this module; it need not be installed
    from typing_extensions import TypeVar as DefaultingTypeVar

    K = DefaultingTypeVar("K", default=Any)
    V = DefaultingTypeVar("V", default=Any)
else:
    K, V = TypeVar("K"), TypeVar("V")
_SHARED_TIMEOUT: Final = 10.0  #: Seconds to wait for the commits of other processes.


@dataclass(frozen=True, slots=True)
class Options:
    """The checked arguments of `open`."""

    layout: Layout
    format: Format
    defaults: Mapping[Any, Any]
    timeout: float  #: Seconds to wait for another writer.
    shared: bool
    autosync: float  #: Seconds between two automatic commits; 0 for none.


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
    """Check the arguments of `open`; return them as one object.

    Args:
        path: The path of the store.
        flag: As in dbm: "r", "w", "c" or "n".
        copies: The number of copies, or a list of folders.
        keep: How many generations each copy holds.
        history: The rule by which generations are kept. None takes "thinned" if `keep` allows it.
        format: The name of a format, or an object that encodes and decodes.
        defaults: Values for keys that a state lacks. None for none.
        timeout: Seconds to wait for another writer. None is 10 if `shared`, else 0.
        shared: True if other processes may write to the store between two commits.
        autosync: Seconds between two automatic commits. None for no automatic commits.

    Raises:
        ValueError: If a value is out of range, or does not fit another one.
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
    where = os.fsdecode(path)
    history = history or (THINNED if keep >= MIN_THINNED else RECENT)
    layout = None if not isinstance(copies, int) else Layout.of(where, copies, keep, history)
    if layout is None or files.exists(layout.list_path):
        layout = places.find(where, copies, keep, history)
    return Options(layout, resolve(format), defaults or {}, timeout, shared, autosync or 0.0)


def filled_in(state: dict[Any, Any], defaults: Mapping[Any, Any]) -> dict[Any, Any]:
    """Add the defaults for keys that a state lacks, also in nested dicts. Return the same state.

    The values are copied, so a later change of the state does not change the defaults.

    Args:
        state: The state to change.
        defaults: The values to add.

    """
    for key, value in defaults.items():
        if key not in state:
            state[key] = copy.deepcopy(value)
        elif isinstance(state[key], dict) and isinstance(value, Mapping):
            filled_in(state[key], value)
    return state
