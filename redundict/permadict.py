"""`PermaDict`: the recipe's signature and behaviour on a redundant store.

An application of the PersistentDict / PermaDict recipe changes one import. The class docstring
names what differs. Knows `mapping` only.
"""

from __future__ import annotations

import os
from typing import Any

from . import errors, lifetime
from .mapping import RedunDict
from .options import Flag


class PermaDict(RedunDict[Any, Any]):
    """A dict with the recipe's constructor, kept in a redundant store.

    As in the recipe: what follows the format goes into the dict, over what was loaded. Flag ``r``
    starts empty where there is no file, and its `sync` does nothing. `close` is a `sync` after
    which the dict can still be used; what is changed then is saved by the next `sync`, or at the
    interpreter's exit. A plain file that the recipe left at `filename` is read (pickle only with
    ``format='pickle'``) and stays as it is. What is saved goes to ``filename.a0`` and so on.

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
        super().__init__(filename, flag, mode, format=format)
        self.filename = filename
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
            return super().sync()
        except BaseException:
            if not was_held:  # it was closed, and stays so
                self._release()
            raise

    def close(self) -> None:
        """Commit the state and let others write; the dict can still be used."""
        self.sync()
        self._release()

    def _is_saved(self) -> bool:
        """Tell whether the dict was closed and has not changed since."""
        if self._store.is_held():
            return False
        payload = self._encode().payload
        return self._store.is_committed(payload, self.format) and self._store.is_complete()

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
