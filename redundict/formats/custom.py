"""Store a dict in a format that the caller brings along: a module, or an object.

Nobody knows what such a format gives back. So `encode` decodes each payload again and compares.

Invariant: a state that `encode` accepts is decoded to an equal state whose items have the same
types.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from redundict import errors

from .comparison import differences
from .refusals import (
    OnSubclass,
    State,
    as_state,
    reraise_foreign,
    undecodable,
    unencodable,
    unstorable,
)
from .snapshots import undisturbed


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
            payload = self._payload(state)
            found = list(differences(state, self.decode(payload)))
        except Exception as error:
            reraise_foreign(error)
            raise unencodable(state, self.name, error, self._try_item) from error
        for difference in found:
            if self._on_subclass is None or not difference.is_subclass:
                raise unstorable(difference.item, difference.why, self.name)
        if self._on_subclass:
            for difference in found:
                self._on_subclass(difference.item, difference.value)
        return payload

    def _try_item(self, item: object) -> None:
        self.decode(self._payload({"": item}))

    def _payload(self, state: State) -> bytes:
        encoded = self._dumps(state)
        return encoded.encode() if self._is_text else bytes(encoded)

    def decode(self, payload: bytes) -> State:
        """Return the state; see `Format.decode`."""
        try:
            return as_state(self._loads(payload.decode() if self._is_text else payload), self.name)
        except errors.FormatError:
            raise
        except Exception as error:
            reraise_foreign(error)
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


def _writes_text(dump: Callable[..., Any]) -> bool:
    try:
        dump({}, io.BytesIO())
    except TypeError as error:
        errors.reraise_interrupt(error)
        return True
    return False
