"""Store a dict in a format that the caller brings along: a module, or an object.

Nobody knows what such a format gives back. So `encode` decodes each payload again and compares.

Invariant: a state that `encode` accepts is decoded to an equal state whose items have the same
types.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from redundict import errors

from .refusals import (
    ROOT,
    OnSubclass,
    State,
    as_state,
    described,
    shown,
    undecodable,
    unencodable,
    unstorable,
)
from .snapshots import undisturbed


class Difference(NamedTuple):
    """An item that comes back changed."""

    item: str  #: Its path, or that of the dict whose key it is.
    why: str
    value: object  #: The item, or the key.
    is_subclass: bool = False  #: It comes back equal, as a type that its own type derives from.


class CustomFormat:
    """Any object with ``dumps`` and ``loads``, or with ``dump`` and ``load``.

    The trailer names the format after the module or the class.

    Args:
        target: The module or object. It may write str or bytes.
        on_subclass: None refuses an item that comes back as a plain type. Otherwise an item that
            comes back equal, as a type that its own type derives from, is stored, and this is
            called with the item's path and value.

    Raises:
        TypeError: `target` has neither pair of functions.
        ValueError: `target` has no name that fits a trailer.

    """

    def __init__(self, target: Any, on_subclass: OnSubclass | None = None) -> None:
        name = getattr(target, "__name__", type(target).__name__)
        self.name = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:64]
        self._on_subclass = on_subclass
        if not self.name:
            raise ValueError(f"{name!r} cannot name a format")
        if callable(getattr(target, "dumps", None)) and callable(getattr(target, "loads", None)):
            self._dumps, self._loads = target.dumps, target.loads
            self._is_text = isinstance(self._dumps({}), str)
        elif callable(getattr(target, "dump", None)) and callable(getattr(target, "load", None)):
            self._is_text = _writes_text(target.dump)
            self._dumps, self._loads = self._through_files(target.dump, target.load)
        else:
            raise TypeError(f"format {target!r} has neither dumps and loads nor dump and load")

    def encode(self, state: State) -> bytes:
        """Return the payload; see `Format.encode`."""
        return undisturbed(state, self._encode)

    def _encode(self, state: State) -> bytes:
        # A foreign encoder, or the state's own __eq__, may raise anything. Nothing was written yet.
        try:
            encoded = self._dumps(state)
            payload: bytes = encoded.encode() if self._is_text else bytes(encoded)
            differences = list(_in_items(state, self.decode(payload), ROOT))
        except Exception as error:
            raise unencodable(state, self.name, error, lambda v: self._dumps({"": v})) from error
        for difference in differences:
            if self._on_subclass is None or not difference.is_subclass:
                raise unstorable(difference.item, difference.why, self.name)
        if self._on_subclass:
            for difference in differences:
                self._on_subclass(difference.item, difference.value)
        return payload

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`."""
        try:
            return as_state(self._loads(payload.decode() if self._is_text else payload), self.name)
        except errors.FormatError:
            raise
        except Exception as error:
            raise undecodable(self.name, error) from error

    def _through_files(
        self, dump: Callable[..., Any], load: Callable[..., Any]
    ) -> tuple[Callable[[State], Any], Callable[[Any], Any]]:
        kind: Any = io.StringIO if self._is_text else io.BytesIO

        def dumps(state: State) -> Any:
            file = kind()
            dump(state, file)
            return file.getvalue()

        return dumps, lambda encoded: load(kind(encoded))


def _differences(given: Any, back: Any, path: str) -> Iterator[Difference]:
    """Yield the items that come back as another type, or not equal."""
    kind = type(back)
    if type(given) is not kind:
        is_subclass = issubclass(type(given), kind) and bool(given == back)
        what = f"a plain {kind.__name__}" if is_subclass else described(back)
        yield Difference(path, f"{described(given)} comes back as {what}", given, is_subclass)
        if not is_subclass:
            return
    yield from _in_items(given, back, path)


def _in_items(given: Any, back: Any, path: str) -> Iterator[Difference]:
    """Yield the differences between two values of one type, those in their items included."""
    if isinstance(given, dict):
        yield from _in_keys(given, back, path)
        for key, value in given.items():
            if key in back:
                yield from _differences(value, back[key], f"{path}[{shown(key)}]")
    elif isinstance(given, list | tuple):
        if len(given) != len(back):
            yield Difference(path, f"comes back with {len(back)} items", given)
        for index, (value, other) in enumerate(zip(given, back, strict=False)):
            yield from _differences(value, other, f"{path}[{index}]")
    elif not _same(given, back):
        yield Difference(path, f"{described(given)} comes back as {described(back)}", given)


def _in_keys(given: State, back: State, path: str) -> Iterator[Difference]:
    """Yield the keys that do not come back, or come back as another type."""
    found = {key: key for key in back}
    for key in given:
        if key not in found:
            yield Difference(path, f"key {described(key)} does not come back", key)
        elif type(key) is not type(found[key]):
            why = f"key {described(key)} comes back as {described(found[key])}"
            yield Difference(path, why, key, issubclass(type(key), type(found[key])))
    if len(back) > len(given):
        yield Difference(path, "comes back with more keys", given)


def _same(given: object, back: object) -> bool:
    if given is back or given == back:
        return True
    if isinstance(given, float) and isinstance(back, float):
        return math.isnan(given) and math.isnan(back)
    # Objects that define no equality cannot be compared. Their types are equal; that has to do.
    return type(given) is type(back) and type(given).__eq__ is object.__eq__


def _writes_text(dump: Callable[..., Any]) -> bool:
    try:
        dump({}, io.BytesIO())
    except TypeError:
        return True
    return False
