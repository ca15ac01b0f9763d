"""`PermaDict`: the recipe's signature and behaviour on a redundant store.

An application of the PersistentDict / PermaDict recipe changes one import. The class docstring
names what differs. Knows `mapping` only.
"""

from __future__ import annotations

import os
from typing import Any

from . import errors, lifetime
from .formats.refusals import OnSubclass, described
from .formats.resolve import resolve
from .mapping import RedunDict
from .options import Flag


class PermaDict(RedunDict[Any, Any]):
    """A dict with the recipe's constructor, kept in a redundant store.

    As in the recipe: what follows the format goes into the dict, over what was loaded. Flag ``r``
    starts empty where there is no file, and its `sync` does nothing. `close` is a `sync` after
    which the dict can still be used. Changes after `close` are saved by the next `sync`, or at the
    interpreter's exit. A plain file that the recipe left at `filename` is read (pickle only with
    ``format='pickle'``) and stays as it is. What is saved goes to ``filename.a0`` and so on.

    A value of a subclass (`OrderedDict`, `IntEnum`) is stored as the plain value that it is equal
    to, with a warning once for each place.

    Unlike the recipe: a second writer gets `LockedError`, a file that cannot be read is an error
    and not an empty dict, and a value that JSON or CSV would bring back changed is refused.

    Args:
        filename: Names the store.
        flag: As in dbm: ``r``, ``w``, ``c`` or ``n``.
        mode: The permission bits of the files.
        format: ``"json"``, ``"csv"``, ``"pickle"``, or an object with ``dumps`` and ``loads``.
        *args: As for `dict.update`.
        **kwds: As for `dict.update`.

    Raises:
        LockedError, LostError, AccessError, DivergedError, FormatError: As `RedunDict`.

    """

    _is_assignable = True

    def __init__(
        self,
        filename: str | os.PathLike[str],
        flag: Flag = "c",
        mode: int | None = None,
        format: object = "json",
        *args: Any,
        **kwds: Any,
    ) -> None:
        subclasses: dict[str, str] = {}  # by item: what is not told yet, then ""
        super().__init__(filename, flag, mode, format=resolve(format, _noting(subclasses)))
        self._subclasses, self.filename = subclasses, filename
        try:
            self.update(*args, **kwds)
        except BaseException:
            lifetime.unregister(self)
            self._release()
            raise

    def sync(self) -> int:
        """Commit the state, as `RedunDict.sync`; with flag ``r``, do nothing."""
        if self.flag == "r" or self._is_saved():
            return self.generation
        was_held = self._store.is_held()
        try:
            generation = super().sync()
        except BaseException:
            if not was_held:  # it was closed, and stays so
                self._release()
            raise
        self._warn_of_subclasses()
        return generation

    def close(self) -> None:
        """Commit the state and let others write; the dict can still be used."""
        self.sync()
        self._release()

    def _warn_of_subclasses(self) -> None:
        """Warn once for each place where a plain value was stored. Memory and store agree now."""
        for item, told in self._subclasses.items():
            if told:
                self._subclasses[item] = ""
                errors.warn(f"{self.path}: {item}: {told}", UserWarning)

    def _is_saved(self) -> bool:
        """Tell whether the dict was closed, in every copy, and has not changed since."""
        return self._is_unchanged_since_close() and self._store.is_complete()

    def _is_unchanged_since_close(self) -> bool:
        if self.flag == "r" or self._store.is_held():
            return False
        return self._store.is_committed(self._encode().payload, self.format)

    def _save_at_exit(self) -> None:
        if not self._is_unchanged_since_close():
            super()._save_at_exit()

    def _close_at_last(self) -> None:
        if not self._is_unchanged_since_close():
            super()._close_at_last()

    def _release(self) -> None:
        self._let_go()  # it stays registered: what is changed from now on is saved at exit

    def _begin_as_child(self) -> None:
        if self._store.is_held():
            super()._begin_as_child()
        else:  # it was closed: a child may use it, and takes the lock for itself
            self._begin_alone()

    def _starting_state(self) -> dict[Any, Any]:
        try:
            return super()._starting_state()
        except errors.NotFoundError:
            if self.flag != "r":
                raise
            return {}


def _noting(subclasses: dict[str, str]) -> OnSubclass:
    """Return what notes each item of a subclass; it must not keep the dict alive."""

    def note(item: str, value: object) -> None:
        subclasses.setdefault(item, f"{described(value)} is stored as its plain value")

    return note
