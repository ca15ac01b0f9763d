"""`PermaDict`: the recipe's signature and manners on a redundant store.

An application of the PersistentDict / PermaDict recipe changes one import. What differs is named
in the class docstring. Knows `mapping` only.
"""

from __future__ import annotations

import os
from typing import Any

from . import errors, lifetime
from .mapping import RedunDict


class PermaDict(RedunDict):
    """A dict with the recipe's constructor, kept in a redundant store.

    ``PermaDict(filename, flag='c', mode=None, format='json', *args, **kwds)``: what follows the
    format goes into the dict, over what was loaded. As in the recipe, flag ``r`` starts empty where
    there is no file and its `sync` does nothing; `close` is a `sync` after which the dict can still
    be used (and synced again). A plain file that the recipe left at `filename` is read (pickle only
    with ``format='pickle'``) and stays as it is; what is saved goes to ``filename.a0`` and so on.

    Unlike the recipe: a second writer gets `LockedError`, a file that cannot be read is an error
    and not an empty dict, and a value that JSON or CSV would bring back changed is refused.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        flag: str = "c",
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
            self._release()
            raise

    def sync(self) -> int:  # type: ignore[override]  # the recipe's, without options
        """Commit the state, as `RedunDict.sync`; with flag 'r', do nothing."""
        if self.flag == "r" or self._is_saved():
            return self.generation
        was_held = self._store.lock.held
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
        if self._store.lock.held:
            return False
        with self.lock:
            return self._store.holds(self._encoded(), self.format)

    def _release(self) -> None:
        lifetime.ended(self)
        self._writer.release()

    def _starting_state(self) -> dict[Any, Any]:
        try:
            return super()._starting_state()
        except errors.NotFoundError:
            if self.flag != "r":
                raise
            return {}
