"""`PermaDict`: the signature and behaviour of the recipe, on a redundant store.

An application that uses the PersistentDict / PermaDict recipe changes one import. The class
docstring lists the differences. This module must not know the engine.
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
    """A dict in a redundant store, with the constructor of the recipe.

    As in the recipe:

    - Arguments after `format` are put into the dict. They replace loaded values.
    - With flag ``r``, the dict is empty if there is no file, and `sync` does nothing.
    - `close` commits, and the dict can still be used. The next `sync` or the exit of the
      interpreter saves later changes.
    - A plain file that the recipe left at `filename` is read and not changed (a pickle only with
      ``format='pickle'``). The state is saved to ``filename.a0`` and so on.

    A value of a subclass (`OrderedDict`, `IntEnum`) is stored as the equal plain value. A warning
    names each place once.

    Unlike the recipe:

    - A second writer gets a `LockedError`.
    - A file that cannot be read is an error. The recipe started with an empty dict.
    - A value that the format would load as another value is refused.

    Args:
        filename: The path of the store.
        flag: As in dbm: ``r``, ``w``, ``c`` or ``n``.
        mode: The permission bits of the files.
        format: ``"json"``, ``"csv"``, ``"literal"``, ``"pickle"``, or an object with ``dumps`` and
            ``loads``.
        *args: As for `dict.update`.
        **kwds: As for `dict.update`.

    Raises:
        RedundictError: As `RedunDict` raises it.

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
        subclasses: dict[str, str] = {}  # by item: a warning that is due, or ""
        super().__init__(filename, flag, mode, format=resolve(format, _noting(subclasses)))
        self._subclasses, self.filename = subclasses, filename
        try:
            self.update(*args, **kwds)
        except BaseException:
            lifetime.stores.remove(self)
            self._release()
            raise

    def sync(self) -> int:
        """Commit the state as `RedunDict.sync` does; with flag ``r``, do nothing.

        After a crash, this generation loads. If the crash came before this returned, the generation
        before it may load instead.

        Returns:
            The durable generation.

        Raises:
            RedundictError: As `RedunDict.sync` raises it.

        """
        if self.flag == "r" or self._is_saved():
            return self.generation
        was_held = self._store.is_held()
        try:
            generation = super().sync()
        except BaseException:
            if not was_held:  # it was closed, and stays closed
                self._release()
            raise
        self._warn_of_subclasses()
        return generation

    def close(self) -> None:
        """Commit the state and release the lock. The dict can still be used.

        Raises:
            RedundictError: As `RedunDict.sync` raises it.

        """
        self.sync()
        self._release()

    def _warn_of_subclasses(self) -> None:
        """Warn once for each place where a plain value was stored, after the commit (law 14)."""
        for item, told in self._subclasses.items():
            if told:
                self._subclasses[item] = ""
                errors.warn(f"{self.path}: {item}: {told}", UserWarning)

    def _is_saved(self) -> bool:
        """Return True if the dict is closed, unchanged since, and durable in every copy."""
        return self._is_unchanged_since_close() and self._store.is_complete()

    def _is_unchanged_since_close(self) -> bool:
        if self.flag == "r" or self._store.is_held():
            return False
        return self._store.is_committed(self._encode().payload, self.format)

    def _save_at_exit(self, deadline: float) -> None:
        if not self._is_unchanged_since_close():
            super()._save_at_exit(deadline)

    def _sync_at_end(self) -> None:
        self.sync()

    def _close_at_last(self) -> None:
        if not self._is_unchanged_since_close():
            super()._close_at_last()

    def _release(self) -> None:
        self._let_go()  # it stays registered, so later changes are saved at exit

    def _is_held_by_parent(self) -> bool:
        return self._store.is_held()  # if it was closed, a child may take the lock itself

    def _starting_state(self) -> dict[Any, Any]:
        try:
            return super()._starting_state()
        except errors.NotFoundError:
            if self.flag != "r":
                raise
            return {}


def _noting(subclasses: dict[str, str]) -> OnSubclass:
    """Return a function that notes each value of a subclass. It must not keep the dict alive."""

    def note(item: str, value: object) -> None:
        subclasses.setdefault(item, f"{described(value)} is stored as its plain value")

    return note
